//! The table's own form. `template.yaml` makes it on AWS; tests make it here.

use aws_sdk_dynamodb::types::{AttributeDefinition, BillingMode, KeySchemaElement, KeyType, ScalarAttributeType};
use statefun_engine::ports::{PortError, PortErrorKind};

use crate::{clients::Clients, error::port_error};

/// Makes the table: partition key `pk`, sort key `sk`, billed per request.
///
/// # Errors
/// [`PortError`] if the service refuses; a table that is there is no error.
pub async fn create_table(clients: &Clients, name: &str) -> Result<(), PortError> {
    let mut request = clients.dynamodb.create_table().table_name(name).billing_mode(BillingMode::PayPerRequest);
    for (key, kind) in [("pk", KeyType::Hash), ("sk", KeyType::Range)] {
        let built = |error| PortError::new("create table", PortErrorKind::Refused, error);
        let schema = KeySchemaElement::builder().attribute_name(key).key_type(kind).build().map_err(built)?;
        let attribute = AttributeDefinition::builder().attribute_name(key).attribute_type(ScalarAttributeType::S);
        request = request.key_schema(schema).attribute_definitions(attribute.build().map_err(built)?);
    }
    match request.send().await {
        Ok(_) => Ok(()),
        Err(error) if error.as_service_error().is_some_and(|error| error.is_resource_in_use_exception()) => Ok(()),
        Err(error) => Err(port_error("create table", error)),
    }
}
