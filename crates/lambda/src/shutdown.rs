//! The end of an execution environment.
//!
//! Lambda sends a runtime SIGTERM, but only where an extension is registered; an internal one that subscribes to nothing is
//! enough, and costs an invocation nothing. Source: "Lambda execution environment lifecycle" and "Lambda Extensions API".

use bytes::Bytes;
use futures_util::future::BoxFuture;
use http_body_util::Full;
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::TokioExecutor,
};
use lambda_runtime::Error;
use tokio::signal::unix::{SignalKind, signal};

const NAME: &str = "statefun-shutdown";
const IDENTIFIER: &str = "lambda-extension-identifier";

/// Has Lambda say when this environment ends; the future completes then, and the process has 500 ms. To be called before the first poll, which
/// ends the time for registering. Where Lambda does not say so, the future never completes.
pub(crate) async fn end_of_environment(api: &str) -> BoxFuture<'static, ()> {
    let Ok(mut terminated) = signal(SignalKind::terminate()) else { return Box::pin(std::future::pending()) };
    if let Err(error) = register(api).await {
        tracing::debug!(%error, "Lambda will not say when this environment ends");
    }
    Box::pin(async move {
        terminated.recv().await;
    })
}

async fn register(api: &str) -> Result<(), Error> {
    let client = Client::builder(TokioExecutor::new()).build(HttpConnector::new());
    let register = hyper::Request::post(format!("http://{api}/2020-01-01/extension/register"));
    let register = register.header("lambda-extension-name", NAME).body(Full::new(Bytes::from_static(b"{\"events\":[]}")))?;
    let answer = client.request(register).await?;
    let Some(identifier) = answer.headers().get(IDENTIFIER).filter(|_| answer.status().is_success()).cloned() else {
        return Err(format!("the extension was not registered: {}", answer.status()).into());
    };
    let next = hyper::Request::get(format!("http://{api}/2020-01-01/extension/event/next"));
    let next = next.header(IDENTIFIER, identifier).body(Full::default())?;
    // Asking for events that never come is how an extension says that it is ready.
    tokio::spawn(async move { client.request(next).await.map(drop) });
    Ok(())
}

#[cfg(test)]
mod tests {
    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        net::TcpListener,
    };

    use super::*;

    /// Answers each request with the next of these, and returns the requests' heads.
    async fn api(answers: &'static [&'static str]) -> (String, tokio::task::JoinHandle<Vec<String>>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let served = tokio::spawn(async move {
            let (mut connection, _) = listener.accept().await.unwrap();
            let mut heads = Vec::new();
            for answer in answers {
                let mut buffer = vec![0; 4_096];
                let mut read = 0;
                while !buffer[..read].windows(4).any(|end| end == b"\r\n\r\n") {
                    read += connection.read(&mut buffer[read..]).await.unwrap();
                }
                heads.push(String::from_utf8_lossy(&buffer[..read]).to_lowercase());
                connection.write_all(answer.as_bytes()).await.unwrap();
            }
            heads
        });
        (address, served)
    }

    #[tokio::test]
    async fn registers_and_asks_for_no_events() {
        let (address, served) =
            api(&["HTTP/1.1 200 OK\r\nlambda-extension-identifier: x7\r\ncontent-length: 0\r\n\r\n", ""]).await;
        register(&address).await.unwrap();
        let heads = served.await.unwrap();
        assert!(heads[0].starts_with("post /2020-01-01/extension/register "), "{heads:?}");
        assert!(heads[0].contains("lambda-extension-name: statefun-shutdown\r\n"), "{heads:?}");
        assert!(heads[1].starts_with("get /2020-01-01/extension/event/next "), "{heads:?}");
        assert!(heads[1].contains("lambda-extension-identifier: x7\r\n"), "{heads:?}");
    }

    #[tokio::test]
    async fn goes_on_where_there_are_no_extensions() {
        let (address, _served) = api(&["HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n"]).await;
        assert!(register(&address).await.unwrap_err().to_string().contains("404"));
    }
}
