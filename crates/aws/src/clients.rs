//! The services' clients, set up once per process.

use std::{sync::Arc, time::Duration};

use aws_config::{BehaviorVersion, SdkConfig, retry::RetryConfig, timeout::TimeoutConfig};
use aws_smithy_http_client::tls::{self, rustls_provider::CryptoMode};

use crate::calls::{Calls, Counting};

/// How long one attempt of a call may take. The protocol repeats what is left open, so a lost reply need not be waited for.
const ATTEMPT_TIMEOUT: Duration = Duration::from_secs(5);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
/// Attempts of one call within the SDK; after that the message itself is tried again, later.
const ATTEMPTS: u32 = 3;

/// A client of each service, and what they counted. Cheap to clone; all clones count together.
#[derive(Debug, Clone)]
pub struct Clients {
    /// DynamoDB.
    pub dynamodb: aws_sdk_dynamodb::Client,
    /// SQS.
    pub sqs: aws_sdk_sqs::Client,
    /// SNS.
    pub sns: aws_sdk_sns::Client,
    /// Kinesis.
    pub kinesis: aws_sdk_kinesis::Client,
    /// Counts of all calls.
    pub calls: Arc<Calls>,
}

impl Clients {
    /// Clients as the environment says: region, credentials, `AWS_ENDPOINT_URL`. Nothing is sent.
    pub async fn from_env() -> Self {
        Self::new(&loader().load().await)
    }

    /// Clients for one endpoint that serves everything, such as an emulator, as the account `access_key`.
    pub async fn for_endpoint(endpoint: &str, region: &str, access_key: &str) -> Self {
        let credentials = aws_sdk_sqs::config::Credentials::new(access_key, "none", None, None, "given");
        let region = aws_sdk_sqs::config::Region::new(region.to_owned());
        Self::new(&loader().endpoint_url(endpoint).region(region).credentials_provider(credentials).load().await)
    }

    /// Clients of this configuration.
    #[must_use]
    pub fn new(config: &SdkConfig) -> Self {
        let calls = Arc::<Calls>::default();
        let counting = || Counting(calls.clone());
        Self {
            dynamodb: aws_sdk_dynamodb::Client::from_conf(
                aws_sdk_dynamodb::config::Builder::from(config).interceptor(counting()).build(),
            ),
            sqs: aws_sdk_sqs::Client::from_conf(aws_sdk_sqs::config::Builder::from(config).interceptor(counting()).build()),
            sns: aws_sdk_sns::Client::from_conf(aws_sdk_sns::config::Builder::from(config).interceptor(counting()).build()),
            kinesis: aws_sdk_kinesis::Client::from_conf(
                aws_sdk_kinesis::config::Builder::from(config).interceptor(counting()).build(),
            ),
            calls,
        }
    }
}

fn loader() -> aws_config::ConfigLoader {
    let http = aws_smithy_http_client::Builder::new().tls_provider(tls::Provider::Rustls(CryptoMode::Ring)).build_https();
    let timeouts = TimeoutConfig::builder().connect_timeout(CONNECT_TIMEOUT).operation_attempt_timeout(ATTEMPT_TIMEOUT).build();
    let retries = RetryConfig::standard().with_max_attempts(ATTEMPTS).with_initial_backoff(Duration::from_millis(50));
    aws_config::defaults(BehaviorVersion::latest()).http_client(http).timeout_config(timeouts).retry_config(retries)
}
