//! Names of queues and streams.

/// The name of a queue or stream, which is the last part of its ARN or URL: no name has `/` or `:` in it. The ARN of a stream's consumer
/// (enhanced fan-out) begins with its stream's: the name is that of the stream, so that its records are the same by either way.
#[must_use]
pub fn resource_name(location: &str) -> &str {
    let location = stream_of_consumer(location).unwrap_or(location);
    location.rsplit(['/', ':']).next().unwrap_or(location)
}

/// The ARN of the stream, if this is the ARN of a consumer of it: `arn:aws:kinesis:…:stream/NAME/consumer/NAME:TIME`.
#[must_use]
pub fn stream_of_consumer(arn: &str) -> Option<&str> {
    arn.starts_with("arn:").then(|| arn.split_once("/consumer/"))?.map(|(stream, _)| stream)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arns_urls_and_names() {
        let (arn, url) = ("arn:aws:sqs:eu-west-1:123456789012:orders.fifo", "https://sqs.example/123456789012/orders.fifo");
        assert_eq!([arn, url, "orders.fifo"].map(resource_name), ["orders.fifo"; 3]);
        assert_eq!(resource_name("arn:aws:kinesis:eu-west-1:123456789012:stream/names"), "names");
    }

    #[test]
    fn a_consumer_is_of_its_stream() {
        let stream = "arn:aws:kinesis:eu-west-1:123456789012:stream/names";
        let consumer = format!("{stream}/consumer/statefun:1570000000");
        assert_eq!((resource_name(&consumer), stream_of_consumer(&consumer)), ("names", Some(stream)));
        // A queue may have such a URL.
        assert_eq!((resource_name("https://sqs.example/consumer/orders"), stream_of_consumer(stream)), ("orders", None));
    }
}
