//! Names of queues and streams.

/// The name of a queue or stream, which is the last part of its ARN or URL: no name has `/` or `:` in it.
#[must_use]
pub fn resource_name(location: &str) -> &str {
    location.rsplit(['/', ':']).next().unwrap_or(location)
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
}
