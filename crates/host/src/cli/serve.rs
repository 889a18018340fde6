//! Running an application until it is told to stop, or has nothing more to do.

use std::net::SocketAddr;

use tokio::net::TcpListener;

use super::{App, settings::Settings, stop::Stopping, terminal::Terminal};
use crate::{
    error::HostError,
    host::{Host, erase},
    http::{is_loopback, listen},
    input::{FileIngress, FileReport},
};

pub(super) async fn serve(app: App, settings: Settings, terminal: &Terminal) -> Result<(), HostError> {
    let Settings { data, listen: address, access, input, egress, module, handler_timeout, until_idle, fresh } = settings;
    let listener = match address {
        Some(address) => Some(listen(address).await?),
        None => None,
    };
    if fresh {
        erase(&data)?;
    }
    let mut options = app.options;
    (options.data, options.egress) = (data, egress);
    (options.module, options.access) = (module.or(options.module), access);
    options.handler_timeout = handler_timeout.unwrap_or(options.handler_timeout);
    let stop_timeout = options.stop_timeout;
    let host = Host::open(app.functions, app.rules, options)?;
    let stopping = Stopping::on_signals(host.io(), terminal.clone());
    host.start();
    let shown = listener.as_ref().and_then(|listener| listener.local_addr().ok());
    say_what_runs(&host, shown);
    // A task of its own: requests that are on their way when the host stops are still answered.
    let mut server = tokio::spawn(serve_http(host.clone(), listener));
    let input = input.map(|input| input.on_progress(terminal.progress()));
    let ended = tokio::select! {
        () = stopping.asked() => Ok(()),
        error = host.failed() => Err(error),
        served = &mut server => served.unwrap_or_else(|error| Err(HostError::Stopped(error.to_string()))),
        worked = work(&host, input, until_idle) => worked,
    };
    let _in_time = stopping.begins(stop_timeout);
    let letters = host.store().letter_count();
    let stopped = host.shutdown().await;
    // If the last flush failed, not all of them may be kept; that error is the one to report.
    if letters > 0 && stopped.is_ok() {
        tracing::warn!(dead_letters = letters, "there are dead letters: `dead-letters list` shows them");
    }
    ended.and(stopped)
}

async fn serve_http(host: Host, listener: Option<TcpListener>) -> Result<(), HostError> {
    let Some(listener) = listener else { return std::future::pending().await };
    match listener.local_addr() {
        Ok(address) => say_where(address),
        Err(error) => tracing::warn!(%error, "listening somewhere"),
    }
    host.serve(listener).await
}

/// Functions that the start line names; of more, it says how many there are.
const NAMED: usize = 20;

fn say_what_runs(host: &Host, address: Option<SocketAddr>) {
    let mut names = host.functions();
    let more = names.len().saturating_sub(NAMED);
    names.truncate(NAMED);
    let mut functions = names.join(", ");
    if more > 0 {
        functions += &format!(" and {more} more");
    }
    let address = address.map_or_else(|| "none".to_owned(), |address| format!("http://{address}"));
    tracing::info!(functions, address, data = %host.data().display(), "started");
}

fn say_where(address: SocketAddr) {
    tracing::info!(
        "POST http://{address}/<namespace>/<name>/<id> sends a message; GET http://{address}/_/health looks after the host"
    );
    if !is_loopback(address) {
        tracing::warn!(
            "other machines reach {address}, unencrypted, and the token with it: put a proxy before it that speaks TLS"
        );
    }
}

/// Reads the input. Without `until_idle` it then goes on for ever.
async fn work(host: &Host, input: Option<FileIngress>, until_idle: bool) -> Result<(), HostError> {
    if let Some(input) = input {
        let FileReport { rows, rejected, resumed_at, interrupted } = host.run_file(input).await?;
        match resumed_at {
            _ if interrupted => {}
            Some(line) => tracing::info!(rows, rejected, line, "the input is read from where it was left"),
            None => tracing::info!(rows, rejected, "the input is read"),
        }
    }
    match until_idle {
        true => host.idle().await,
        false => std::future::pending().await,
    }
}
