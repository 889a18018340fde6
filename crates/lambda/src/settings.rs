//! What the environment says: settings and the module file, with everything that is wrong with them at once.

use std::{env, fmt, fs, path::PathBuf, time::Duration};

use statefun_core::{paragraphs, protocol::Marks};
use statefun_module::Module;
use tracing_subscriber::EnvFilter;

use crate::log;

/// What a Lambda of this runtime reads in its environment.
///
/// | variable | |
/// |---|---|
/// | `STATEFUN_TABLE` | the DynamoDB table of instances, ledgers and timers |
/// | `STATEFUN_DEAD_LETTERS` | the URL of the dead letters' FIFO queue |
/// | `STATEFUN_TIMERS` | the URL of the standard queue that wakes timers |
/// | `STATEFUN_QUEUE_RETENTION` | for how many seconds the functions' queues keep messages. With it later deliveries prove that outboxes were sent; without it each is cleared by a write |
/// | `STATEFUN_MODULE` | the module file; `$LAMBDA_TASK_ROOT/module.yaml` without it |
/// | `RUST_LOG` | what is logged; `info` without it |
///
/// and the variables that the module file names as `${NAME}`.
#[derive(Debug)]
pub struct Settings {
    /// The table's name.
    pub table: String,
    /// The URL of the dead letters' queue.
    pub dead_letters: String,
    /// The URL of the timers' queue.
    pub timers: String,
    /// How long marks of outboxes are good for; without it there are none.
    pub marks: Option<Marks>,
    /// What the module file declares.
    pub module: Module,
    pub(crate) log: EnvFilter,
}

/// Everything that keeps a Lambda from starting: mistakes in the environment, the module file and the application.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InvalidSettings {
    /// The mistakes; one may take several lines.
    pub problems: Vec<String>,
}

impl fmt::Display for InvalidSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&paragraphs("error: ", &self.problems))
    }
}

impl std::error::Error for InvalidSettings {}

impl Settings {
    /// Reads them: `get` is the environment, by name.
    ///
    /// # Errors
    /// [`InvalidSettings`] with all mistakes.
    pub fn from_env(get: &dyn Fn(&str) -> Option<String>) -> Result<Self, InvalidSettings> {
        let mut problems = Vec::new();
        let mut needed = |name: &str, what: &str| match get(name).filter(|value| !value.trim().is_empty()) {
            Some(value) => value,
            None => {
                problems.push(format!("the variable {name} is missing: {what}"));
                String::new()
            }
        };
        let table = needed("STATEFUN_TABLE", "the name of the DynamoDB table");
        let dead_letters = needed("STATEFUN_DEAD_LETTERS", "the URL of the dead letters' FIFO queue");
        let timers = needed("STATEFUN_TIMERS", "the URL of the timers' standard queue");
        if !dead_letters.is_empty() && !dead_letters.ends_with(".fifo") {
            problems.push(format!("STATEFUN_DEAD_LETTERS=`{dead_letters}` is not a FIFO queue: its name ends in `.fifo`"));
        }
        if timers.ends_with(".fifo") {
            problems.push(format!(
                "STATEFUN_TIMERS=`{timers}` is a FIFO queue, which cannot delay single messages: take a standard one"
            ));
        }
        let marks = marks(get).map_err(|problem| problems.push(problem));
        let log = log::filter(get("RUST_LOG").as_deref()).map_err(|problem| problems.push(problem));
        let module = module(get).map_err(|more| problems.extend(more));
        match (module, marks, log) {
            (Ok(module), Ok(marks), Ok(log)) if problems.is_empty() => {
                Ok(Self { table, dead_letters, timers, marks, module, log })
            }
            _ => Err(InvalidSettings { problems }),
        }
    }
}

/// SQS keeps messages for a minute to 14 days.
fn marks(get: &dyn Fn(&str) -> Option<String>) -> Result<Option<Marks>, String> {
    const NAME: &str = "STATEFUN_QUEUE_RETENTION";
    let Some(text) = get(NAME).filter(|text| !text.trim().is_empty()) else { return Ok(None) };
    match text.trim().parse() {
        Ok(seconds @ 60..=1_209_600) => Ok(Some(Marks::of_retention(Duration::from_secs(seconds)))),
        _ => Err(format!(
            "{NAME}=`{text}` is not a number of seconds from 60 to 1209600: set it to the MessageRetentionPeriod of the functions' queues"
        )),
    }
}

fn module(get: &dyn Fn(&str) -> Option<String>) -> Result<Module, Vec<String>> {
    let path = module_path(get);
    let file = path.display().to_string();
    let text = fs::read(&path).map_err(|error| {
        vec![format!("the module file `{file}` cannot be read ({error}): it belongs beside `bootstrap`, or set STATEFUN_MODULE")]
    })?;
    let names = env::vars_os().filter_map(|(name, _)| name.into_string().ok()).filter(|name| get(name).is_some());
    let module = Module::parse(&file, text).and_then(|module| module.suggesting(names).resolve(get));
    module.map_err(|invalid| invalid.problems.iter().map(ToString::to_string).collect())
}

fn module_path(get: &dyn Fn(&str) -> Option<String>) -> PathBuf {
    match (get("STATEFUN_MODULE"), get("LAMBDA_TASK_ROOT")) {
        (Some(file), _) => file.into(),
        (None, Some(root)) => PathBuf::from(root).join("module.yaml"),
        (None, None) => "module.yaml".into(),
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    const MODULE: &str = "kind: io.statefun.lambda.v1/functions
spec:
  functions: [example/*]
  queues: [\"${GREETER_QUEUE}\"]
";

    /// The settings with these variables and the module file in a folder of its own.
    fn settings(name: &str, module: impl AsRef<[u8]>, variables: &[(&str, &str)]) -> Result<Settings, InvalidSettings> {
        let folder = std::env::temp_dir().join(format!("statefun-settings-{}-{name}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        std::fs::write(folder.join("module.yaml"), module).unwrap();
        let read = Settings::from_env(&|name| match name {
            "LAMBDA_TASK_ROOT" => Some(folder.display().to_string()),
            _ => variables.iter().find(|(variable, _)| *variable == name).map(|(_, value)| (*value).to_owned()),
        });
        std::fs::remove_dir_all(&folder).unwrap();
        read
    }

    const ALL: [(&str, &str); 4] = [
        ("STATEFUN_TABLE", "table"),
        ("STATEFUN_DEAD_LETTERS", "https://sqs.example/1/dead.fifo"),
        ("STATEFUN_TIMERS", "https://sqs.example/1/timers"),
        ("GREETER_QUEUE", "https://sqs.example/1/greeter.fifo"),
    ];

    #[test]
    fn all_of_it() {
        let settings = settings("all", MODULE, &ALL).unwrap();
        assert_eq!((settings.table.as_str(), settings.log.to_string().as_str()), ("table", "info"));
        assert_eq!(settings.module.functions[0].queues, ["https://sqs.example/1/greeter.fifo"]);
    }

    #[test]
    fn all_mistakes_are_told_together() {
        let module = MODULE.replace("io.statefun.lambda.v1/functions", "io.statefun.lambda.v1/function");
        let variables = [
            ("STATEFUN_TIMERS", "timers.fifo"),
            ("STATEFUN_TABLE", " "),
            ("STATEFUN_QUEUE_RETENTION", "14 days"),
            ("RUST_LOG", "a=b=c"),
        ];
        let bad = settings("bad", module, &variables).unwrap_err();
        let report = bad.to_string();
        assert!(report.contains("\n\nerror: the environment variable `GREETER_QUEUE` is not set\n -->"), "{report}");
        let InvalidSettings { problems } = bad;
        for (part, count) in [
            ("STATEFUN_TABLE is missing", 1),
            ("STATEFUN_DEAD_LETTERS is", 1),
            ("is a FIFO queue", 1),
            ("STATEFUN_QUEUE_RETENTION=`14 days` is not", 1),
            ("RUST_LOG", 1),
            ("module.yaml:1:", 1),
        ] {
            assert_eq!(problems.iter().filter(|problem| problem.contains(part)).count(), count, "{part}: {problems:?}");
        }
        let InvalidSettings { problems } = settings("unset", MODULE, &ALL[..3]).unwrap_err();
        assert!(problems.len() == 1 && problems[0].contains("GREETER_QUEUE"), "{problems:?}");
    }

    #[test]
    fn outboxes_have_marks_where_the_retention_is_known() {
        let marks = |seconds| marks(&|_| Some(String::from(seconds)));
        assert_eq!(marks("1209600"), Ok(Some(Marks::of_retention(Duration::from_secs(14 * 86_400)))));
        assert_eq!(marks(" "), Ok(None));
        assert!(marks("59").is_err() && marks("1209601").is_err() && marks("-1").is_err());
    }

    #[test]
    fn a_file_that_is_not_utf8() {
        let InvalidSettings { problems } = settings("latin", b"# \xe4\n", &ALL).unwrap_err();
        assert!(problems.len() == 1 && problems[0].starts_with("the file is not UTF-8 from here on\n"), "{problems:?}");
    }

    #[test]
    fn a_file_that_is_not_there() {
        let none = |name: &str| match name {
            "STATEFUN_MODULE" => Some("/no/such/file.yaml".to_owned()),
            _ => ALL.iter().find(|(variable, _)| *variable == name).map(|(_, value)| (*value).to_owned()),
        };
        let error = Settings::from_env(&none).unwrap_err().to_string();
        assert!(error.starts_with("error: the module file `/no/such/file.yaml` cannot be read"), "{error}");
        assert_eq!(module_path(&|_| None), Path::new("module.yaml"));
    }
}
