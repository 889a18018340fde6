//! Lines of JSON on the standard error, by `RUST_LOG`.

use tracing_subscriber::EnvFilter;

/// What is logged where `RUST_LOG` is not set.
const DEFAULT: &str = "info";

/// Reads `RUST_LOG`.
///
/// # Errors
/// What is wrong with it.
pub(crate) fn filter(setting: Option<&str>) -> Result<EnvFilter, String> {
    let setting = setting.filter(|setting| !setting.trim().is_empty()).unwrap_or(DEFAULT);
    EnvFilter::try_new(setting)
        .map_err(|error| format!("RUST_LOG=`{setting}` cannot be read: {error}; write `info,statefun_engine=debug`"))
}

/// Logs from now on. A subscriber that the program set before stays.
pub(crate) fn start(filter: EnvFilter) {
    let json = tracing_subscriber::fmt().json().flatten_event(true).with_current_span(true).with_span_list(false);
    // What cannot be written is lost: to say so would fail, too, with a panic. An error means that there is one already.
    let _ = json.with_env_filter(filter).with_writer(std::io::stderr).log_internal_errors(false).try_init();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_level_is_info_unless_said() {
        assert_eq!(filter(None).unwrap().to_string(), "info");
        assert_eq!(filter(Some(" ")).unwrap().to_string(), "info");
        assert_eq!(filter(Some("warn")).unwrap().to_string(), "warn");
        assert!(filter(Some("a=b=c")).unwrap_err().contains("RUST_LOG"));
    }
}
