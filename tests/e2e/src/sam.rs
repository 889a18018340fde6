//! The stack as its users deploy it: what `sam build` made, by `sam deploy` with samconfig.toml, used, and removed by `sam delete`.

use std::{path::PathBuf, process::Stdio, time::Duration};

use serde_json::json;
use tokio::process::Command;

use crate::{
    deploy::{self, describe, stack_name},
    http::{Http, REGION},
    problem::{Problem, Result, same, until},
    world::{Setting, World},
};

const ACCOUNT: &str = "900000000001";
const LIMIT: Duration = Duration::from_secs(60);

/// What to deploy, and how.
pub(crate) struct Sam {
    /// The SAM CLI.
    pub(crate) program: PathBuf,
    /// What was built for: without this machine's own the Lambdas are deployed and not run.
    pub(crate) architecture: String,
}

impl Sam {
    /// Deploys, has a name greeted by the binaries that were built, and deletes; says what was seen.
    pub(crate) async fn run(&self, setting: &Setting) -> Result<String> {
        let built = setting.workspace.join(".aws-sam/build");
        let mut template = deploy::read(&setting.python, &setting.workspace, &built.join("template.yaml"))?;
        deploy::fit(&mut template)?;
        // Beside what it names.
        let fitted = built.join("emulated.json");
        std::fs::write(&fitted, template.to_string())?;

        let http = Http::new(&setting.endpoint, ACCOUNT);
        let stack = stack_name(&http);
        let parameters = format!("Architecture={}", self.architecture);
        let deploy = ["deploy", "--no-confirm-changeset", "--stack-name", &stack, "--parameter-overrides", &parameters];
        // It looks for its settings beside the template.
        let settings = setting.workspace.join("samconfig.toml").display().to_string();
        let files = ["--config-file", &settings, "--template-file", &fitted.display().to_string()];
        self.call(setting, &[&deploy[..], &files[..]].concat()).await?;
        let world = World::of(setting, ACCOUNT, describe(&http).await?).await?;
        let shown = match self.architecture.replace("arm64", "aarch64") == std::env::consts::ARCH {
            true => greet(&world).await.map_err(|problem| problem.during("greeting"))?,
            false => format!("not run: this machine is not an {}", self.architecture),
        };
        self.call(setting, &["delete", "--no-prompts", "--stack-name", &stack]).await?;
        Ok(format!("deployed, {shown}, deleted"))
    }

    async fn call(&self, setting: &Setting, args: &[&str]) -> Result<()> {
        let mut command = Command::new(&self.program);
        command.args(args).args(["--region", REGION]).current_dir(&setting.workspace).kill_on_drop(true);
        for (name, value) in [
            ("AWS_ENDPOINT_URL", setting.endpoint.as_str()),
            ("AWS_ACCESS_KEY_ID", ACCOUNT),
            ("AWS_SECRET_ACCESS_KEY", "none"),
            ("SAM_CLI_TELEMETRY", "0"),
        ] {
            command.env(name, value);
        }
        let output = command.env_remove("AWS_PROFILE").stdin(Stdio::null()).output().await?;
        if output.status.success() {
            return Ok(());
        }
        let told = [output.stdout, output.stderr].concat();
        Err(Problem::new(format!("sam {} failed: {}", args.join(" "), String::from_utf8_lossy(&told))))
    }
}

/// A name goes through stream, router, queue and function, and a greeting comes out.
async fn greet(world: &World) -> Result<String> {
    world.put("Names", [("Ann".to_owned(), json!({"name": "Ann"}).to_string().into_bytes())]).await?;
    let mut greetings = Vec::new();
    until("no greeting came", LIMIT, async || {
        greetings.extend(world.take("Greetings").await?.into_iter().filter_map(|message| message.body));
        same("greetings", &greetings, &vec!["Welcome Ann".to_owned()])
    })
    .await?;
    Ok("`Welcome Ann` came out".to_owned())
}
