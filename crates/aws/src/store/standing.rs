//! Finding outboxes that stand.

use aws_sdk_dynamodb::types::{AttributeValue, ReturnConsumedCapacity, Select};
use statefun_core::{Address, Outbox, stored::decode_outbox};
use statefun_engine::{backend::Standing, ports::PortError};

use super::{DynamoStore, keys, keys::Item};
use crate::error::port_error;

/// A page of a look over a part of the table.
#[derive(Debug, Default)]
pub(crate) struct Page {
    /// Outboxes that stand.
    pub(crate) standing: Vec<Standing>,
    /// Where the next page begins; `None` at the end.
    pub(crate) next: Option<Item>,
}

impl DynamoStore {
    /// Outboxes that stand in one of `parts` equal parts of the table, a page at a time. It reads every item of that part, up to 1 MB a page, half
    /// a read unit for 4 KB. Not strongly consistent: what was just written may be missing, and what was just cleared may be there.
    pub(crate) async fn standing(&self, part: u32, parts: u32, from: Option<Item>) -> Result<Page, PortError> {
        let request = self.client.scan().table_name(&*self.table);
        let request = request.segment(part as i32).total_segments(parts as i32).set_exclusive_start_key(from);
        // What is apart of a record has other keys.
        let request = request.filter_expression("sk = :record AND (attribute_exists(o) OR attribute_exists(p))");
        let request = request.expression_attribute_values(":record", AttributeValue::S(keys::RECORD.to_owned()));
        let request = request
            .select(Select::SpecificAttributes)
            .projection_expression("pk, sk, o, p")
            .return_consumed_capacity(ReturnConsumedCapacity::Total);
        let output = request.send().await.map_err(|error| port_error("scan", error))?;
        self.calls.consumed("Scan", output.consumed_capacity());
        let standing = output.items.unwrap_or_default().into_iter().filter_map(standing).collect();
        Ok(Page { standing, next: output.last_evaluated_key })
    }
}

/// One that is spilled counts without its entries; so does one that a later version wrote, which this one cannot read: a nudge harms nobody.
fn standing(mut item: Item) -> Option<Standing> {
    let Some(AttributeValue::S(address)) = item.remove("pk") else { return None };
    let address = Address::parse(&address).ok()?;
    let outbox = match item.remove("o") {
        Some(AttributeValue::B(bytes)) => decode_outbox(&address, bytes.into_inner().into()).unwrap_or_default(),
        _ => Outbox::default(),
    };
    Some(Standing { address, outbox })
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use aws_sdk_dynamodb::primitives::Blob;
    use statefun_core::{LastSeq, Mark, Timestamp, stored::encode_outbox};

    use super::*;

    fn item(name: &str, value: AttributeValue) -> Item {
        HashMap::from([("pk".to_owned(), AttributeValue::S("a/b/c".to_owned())), (name.to_owned(), value)])
    }

    #[test]
    fn an_outbox_that_stands_has_its_mark() {
        let address = Address::parse("a/b/c").unwrap();
        let mark = Some(Mark { above: LastSeq { queue: 1, seq: 2 }, until: Timestamp(3) });
        let outbox = Outbox { mark, made_at: Timestamp(4), ..Outbox::default() };
        let found = standing(item("o", AttributeValue::B(Blob::new(encode_outbox(&address, &outbox))))).unwrap();
        assert_eq!((found.address, found.outbox), (address, outbox));
    }

    #[test]
    fn one_that_is_spilled_or_cannot_be_read_is_as_one_without_a_mark() {
        for item in [item("p", AttributeValue::N("2".to_owned())), item("o", AttributeValue::B(Blob::new([0xff; 9])))] {
            assert_eq!(standing(item).unwrap().outbox, Outbox::default());
        }
        assert!(standing(HashMap::new()).is_none());
    }
}
