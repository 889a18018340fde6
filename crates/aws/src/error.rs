//! What an error of an AWS service means: the one table that tells conflict, throttling and refusal apart.

use aws_smithy_runtime_api::client::{orchestrator::HttpResponse, result::SdkError};
use aws_smithy_types::error::metadata::ProvideErrorMetadata;
use statefun_core::chain;
use statefun_engine::ports::{PortError, PortErrorKind};

/// Error codes after which the call may be repeated more slowly; nothing took effect.
const THROTTLED: &[&str] = &[
    "KMSThrottlingException",
    "KmsThrottled",
    "LimitExceededException",
    "OverLimit",
    "ProvisionedThroughputExceededException",
    "RequestLimitExceeded",
    "RequestThrottled",
    "RequestThrottledException",
    "SlowDown",
    "Throttled",
    "ThrottledException",
    "Throttling",
    "ThrottlingException",
    "TooManyRequestsException",
    // Somebody else's transaction or write was on the same item: nothing of ours took effect.
    "TransactionConflictException",
    "TransactionConflict",
];

/// Error codes after which the call may or may not have taken effect.
const UNAVAILABLE: &[&str] = &[
    "InternalError",
    "InternalErrorException",
    "InternalFailure",
    "InternalFailureException",
    "InternalServerError",
    "KMSInternalException",
    "RequestTimeout",
    "RequestTimeoutException",
    "ServiceUnavailable",
    "ServiceUnavailableException",
    "TransactionInProgressException",
];

/// Error codes by which a queue, topic or stream refuses what a message holds: that message, and no other. A missing queue or
/// permission is not among them: nothing is wrong with the message then. Sources: the references of `SendMessageBatch`, `PublishBatch`
/// and `PutRecords`. Some services put `Exception` behind them.
const CONTENT: &[&str] = &["BatchRequestTooLong", "InvalidAttributeValue", "InvalidMessageContents", "MessageTooLong"];

/// Error codes that mean the same of one entry of a batch. Of a whole request they may as well say that its queue, topic or stream is
/// named wrongly, which is the deployment's fault: then they are waited for as a missing one is.
const CONTENT_OF_AN_ENTRY: &[&str] =
    &["InvalidArgument", "InvalidParameter", "InvalidParameterValue", "Validation", "ValidationError"];

/// Whether a request to an egress is refused for what a record holds. (Elsewhere such a code means that our own request is wrong.)
fn rejects_content(code: &str) -> bool {
    CONTENT.contains(&plain(code))
}

/// As [`rejects_content`], of one entry of a batch.
pub(crate) fn rejects_entry(code: &str) -> bool {
    rejects_content(code) || CONTENT_OF_AN_ENTRY.contains(&plain(code))
}

fn plain(code: &str) -> &str {
    let name = code.rsplit(['.', '#']).next().unwrap_or(code);
    name.strip_suffix("Exception").unwrap_or(name)
}

/// As [`port_error`], of a request that sends so many records. What may be about one of several is a refusal, so that each is asked about
/// by itself; what is then still said of one alone may as well be the deployment's fault.
pub(crate) fn egress_error<E>(call: &'static str, error: SdkError<E, HttpResponse>, records: usize) -> PortError
where
    E: ProvideErrorMetadata + std::error::Error + Send + Sync + 'static,
{
    let code = match &error {
        SdkError::ServiceError(service) => service.err().code().unwrap_or_default(),
        _ => "",
    };
    let rejected = rejects_content(code) || (records > 1 && rejects_entry(code));
    let mut error = port_error(call, error);
    if rejected {
        error.kind = PortErrorKind::Rejected;
    }
    error
}

/// What to do about an error code. Codes that nobody knows are refusals if the caller is to blame for them.
pub(crate) fn kind_of_code(code: &str, client_fault: bool) -> PortErrorKind {
    // Query protocols put the service before the code, JSON protocols a namespace: `AWS.SimpleQueueService.X`, `com.amazonaws#X`.
    let name = code.rsplit(['.', '#']).next().unwrap_or(code);
    if THROTTLED.contains(&name) {
        PortErrorKind::Throttled
    } else if UNAVAILABLE.contains(&name) || !client_fault {
        PortErrorKind::Unavailable
    } else {
        PortErrorKind::Refused
    }
}

/// The port's error of a failed call.
pub(crate) fn port_error<E>(call: &'static str, error: SdkError<E, HttpResponse>) -> PortError
where
    E: ProvideErrorMetadata + std::error::Error + Send + Sync + 'static,
{
    let kind = match &error {
        SdkError::ServiceError(service) => {
            let status = service.raw().status();
            kind_of_code(service.err().code().unwrap_or_default(), status.is_client_error())
        }
        // Our own request could not be made: no try will help. (Credentials that cannot be had come as dispatch failures.)
        SdkError::ConstructionFailure(_) => PortErrorKind::Refused,
        _ => PortErrorKind::Unavailable,
    };
    PortError::new(call, kind, Described::of(error))
}

/// An error of the SDK with its causes: its own text is but "service error".
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct Described(String);

impl Described {
    fn of(error: impl std::error::Error) -> Self {
        Self(chain(&error))
    }
}

/// Something in the table or in a queue that cannot be read.
pub(crate) fn unreadable(call: &'static str, error: impl std::error::Error + Send + Sync + 'static) -> PortError {
    PortError::new(call, PortErrorKind::Refused, error)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_record_is_refused_for_is_not_what_the_deployment_lacks() {
        for code in ["InvalidMessageContents", "AWS.SimpleQueueService.InvalidMessageContents", "BatchRequestTooLong"] {
            assert!(rejects_content(code) && rejects_entry(code), "{code}");
        }
        for code in ["InvalidParameterValueException", "ValidationException", "InvalidArgumentException"] {
            assert!(rejects_entry(code), "{code}");
            assert!(!rejects_content(code), "{code}: the queue, topic or stream may be named wrongly");
        }
        for code in [
            "AWS.SimpleQueueService.NonExistentQueue",
            "QueueDoesNotExist",
            "NotFoundException",
            "ResourceNotFoundException",
            "AccessDenied",
            "AccessDeniedException",
            "KMSAccessDeniedException",
            "InvalidClientTokenId",
            "Throttling",
            "SomethingNew",
        ] {
            assert!(!rejects_entry(code), "{code}");
        }
    }

    #[test]
    fn the_table() {
        use PortErrorKind::{Refused, Throttled, Unavailable};
        for (code, client_fault, kind) in [
            ("ProvisionedThroughputExceededException", true, Throttled),
            ("com.amazonaws.dynamodb.v20120810#ThrottlingException", true, Throttled),
            ("TransactionConflictException", true, Throttled),
            ("RequestThrottled", true, Throttled),
            ("InternalServerError", false, Unavailable),
            ("ServiceUnavailable", false, Unavailable),
            ("SomethingNew", false, Unavailable),
            ("ResourceNotFoundException", true, Refused),
            ("AWS.SimpleQueueService.NonExistentQueue", true, Refused),
            ("AccessDeniedException", true, Refused),
            ("ValidationException", true, Refused),
            ("SomethingNew", true, Refused),
        ] {
            assert_eq!(kind_of_code(code, client_fault), kind, "{code}");
        }
    }
}
