//! template.yaml, deployed to the emulator as `sam deploy` would: packages in S3, then a stack with the SAM transform.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::Duration,
};

use hyper::Method;
use serde_json::{Map, Value, json};

use crate::{
    http::{Http, elements},
    problem::{Problem, Result, until},
};

/// Invocations at a time of a standard queue.
const CONCURRENCY: u32 = 5;

/// Where a template has the variables of all Lambdas.
const VARIABLES: &str = "/Globals/Function/Environment/Variables";

/// A queue that is not there: whoever sends to it fails.
const ABSENT: &str = "https://absent.invalid/0/absent.fifo";

/// The template, and a zip of every binary.
pub(crate) struct Packages {
    template: Value,
    zips: tempfile::TempDir,
}

/// What a scenario needs otherwise than template.yaml has it.
#[derive(Debug, Clone, Default)]
pub(crate) struct Changes {
    /// Seconds an invocation may take.
    pub(crate) timeout: Option<u32>,
    /// Seconds until the messages of a Lambda that died come again.
    pub(crate) visibility: Option<u32>,
    /// Events that the scenario makes itself: the Lambda's logical id, and the event's.
    pub(crate) without_events: &'static [(&'static str, &'static str)],
    /// Deploy the test's own functions too.
    pub(crate) own_functions: bool,
    /// A write clears each outbox: no later message proves it.
    pub(crate) no_marks: bool,
}

/// A deployed stack.
#[derive(Debug, Clone)]
pub(crate) struct Stack {
    outputs: BTreeMap<String, String>,
    /// Physical ids by logical ids. A queue's is its URL.
    resources: BTreeMap<String, String>,
}

/// The stack of an account. Its name is in those of the Lambdas, and the emulator stops all Lambdas of a name, whosever they are.
pub(crate) fn stack_name(http: &Http) -> String {
    format!("e2e-{}", http.account())
}

impl Stack {
    pub(crate) fn output(&self, name: &str) -> Result<&str> {
        self.outputs.get(name).map(String::as_str).ok_or_else(|| Problem::new(format!("the stack has no output {name}")))
    }

    /// The URL of a queue that is not an output, by its logical id in the template.
    pub(crate) fn queue(&self, id: &str) -> Result<&str> {
        self.resources.get(id).map(String::as_str).ok_or_else(|| Problem::new(format!("the stack has no resource {id}")))
    }
}

impl Packages {
    /// Reads the template and packs the binaries of this folder.
    pub(crate) fn build(python: &Path, workspace: &Path, binaries: &Path) -> Result<Self> {
        let zips = tempfile::tempdir()?;
        // The module of the test's own functions goes into every zip: what it adds concerns no others.
        let module = zips.path().join("module.yaml");
        let own = workspace.join("tests/e2e/functions");
        let text = |path: PathBuf| std::fs::read_to_string(&path).map_err(|error| Problem::from(error).during(path.display()));
        std::fs::write(&module, text(workspace.join("infra/module.yaml"))? + "---\n" + &text(own.join("module.yaml"))?)?;

        let pack = [&module, binaries, zips.path()];
        let names = ["router-lambda", "greeter", "shopping-cart", "flights", "flights-router", "e2e-functions"];
        let mut template = package(python, workspace, &workspace.join("template.yaml"), &pack, &names)?;
        let own = read(python, workspace, &own.join("template.yaml"))?;
        template["Own"] = own;
        Ok(Self { template, zips })
    }

    /// Deploys to an account that has nothing yet.
    pub(crate) async fn deploy(&self, http: &Http, changes: &Changes) -> Result<Stack> {
        self.put(http, changes, "CREATE").await
    }

    /// Deploys these in place of others.
    pub(crate) async fn update(&self, http: &Http, changes: &Changes) -> Result<Stack> {
        self.put(http, changes, "UPDATE").await
    }

    async fn put(&self, http: &Http, changes: &Changes, what: &str) -> Result<Stack> {
        // Names of buckets are shared by all accounts.
        let bucket = format!("packages-{}-{}", what.to_lowercase(), http.account());
        let template = changed(self.template.clone(), changes, &bucket)?;
        http.call(Method::PUT, "s3", &format!("/{bucket}"), "text/plain", "").await?;
        for name in functions(&template).filter_map(|(_, function)| function["Properties"]["CodeUri"]["Key"].as_str()) {
            let zip = std::fs::read(self.zips.path().join(name))?;
            http.call(Method::PUT, "s3", &format!("/{bucket}/{name}"), "application/zip", zip).await?;
        }
        let name = stack_name(http);
        let action = if what == "UPDATE" { "UpdateStack" } else { "CreateStack" };
        let mut parameters = vec![("Action", action), ("Version", "2010-05-15"), ("StackName", name.as_str())];
        let text = template.to_string();
        parameters.push(("TemplateBody", &text));
        parameters.extend([("Capabilities.member.1", "CAPABILITY_IAM"), ("Capabilities.member.2", "CAPABILITY_AUTO_EXPAND")]);
        let parameters = parameters.into_iter().map(|(name, value)| (name.to_owned(), value.to_owned()));
        http.query("cloudformation", &parameters.collect::<Vec<_>>()).await?;
        until("the stack is not deployed", Duration::from_secs(30), async || complete(http, what).await).await
    }

    /// Removes the stack.
    pub(crate) async fn remove(&self, http: &Http) -> Result<()> {
        ask(http, "DeleteStack").await.map(drop)
    }
}

/// Reads a template; packs binaries on the way: the module, where binaries and zips are, and which.
fn package(python: &Path, workspace: &Path, template: &Path, pack: &[&Path; 3], names: &[&str]) -> Result<Value> {
    let mut command = Command::new(python);
    command.arg(workspace.join("tests/e2e/src/package.py")).arg(template).args(pack).args(names);
    let output = command.stderr(Stdio::inherit()).output()?;
    if !output.status.success() {
        return Err(Problem::new(format!("{} cannot be read or packed: {}", template.display(), output.status)));
    }
    Ok(serde_json::from_slice(&output.stdout)?)
}

/// Reads a template.
pub(crate) fn read(python: &Path, workspace: &Path, template: &Path) -> Result<Value> {
    package(python, workspace, template, &[Path::new(""); 3], &[])
}

/// The account's stack, if it is complete.
pub(crate) async fn describe(http: &Http) -> Result<Stack> {
    complete(http, "CREATE").await
}

/// The same, if this is what was done with it last.
async fn complete(http: &Http, what: &str) -> Result<Stack> {
    let stack = ask(http, "DescribeStacks").await?;
    match elements(&stack, "StackStatus").first() {
        Some(status) if *status == format!("{what}_COMPLETE") => {
            let resources = ask(http, "DescribeStackResources").await?;
            Ok(Stack {
                outputs: pairs(&stack, "OutputKey", "OutputValue"),
                resources: pairs(&resources, "LogicalResourceId", "PhysicalResourceId"),
            })
        }
        status => Err(Problem::new(format!("it is {status:?}: {:?}", elements(&stack, "StackStatusReason")))),
    }
}

/// A call about the account's stack.
async fn ask(http: &Http, action: &str) -> Result<String> {
    let name = stack_name(http);
    let parameters = [("Action", action), ("Version", "2010-05-15"), ("StackName", name.as_str())];
    http.query("cloudformation", &parameters.map(|(name, value)| (name.to_owned(), value.to_owned()))).await
}

/// The texts of two elements that always come together.
fn pairs(xml: &str, key: &str, value: &str) -> BTreeMap<String, String> {
    let texts = |name| elements(xml, name).into_iter().map(str::to_owned);
    texts(key).zip(texts(value)).collect()
}

/// The Lambdas of a template.
fn functions(template: &Value) -> impl Iterator<Item = (&String, &Value)> {
    let resources = template["Resources"].as_object().into_iter().flatten();
    resources.filter(|(_, resource)| resource["Type"] == "AWS::Serverless::Function")
}

/// Leaves out, or replaces, what the emulator does not know; returns the resources.
pub(crate) fn fit(template: &mut Value) -> Result<&mut Map<String, Value>> {
    let resources = template["Resources"].as_object_mut().ok_or_else(|| Problem::new("the template has no resources"))?;
    // Alarms that calculate.
    resources
        .retain(|_, resource| resource["Type"] != "AWS::CloudWatch::Alarm" || resource["Properties"].get("Metrics").is_none());
    // It takes a parameter for a text, which it cannot compare with a number.
    let events = resources.values_mut().filter_map(|resource| resource.pointer_mut("/Properties/Events")?.as_object_mut());
    for event in events.flat_map(|events| events.values_mut()) {
        if let Some(scaling) = event["Properties"].get_mut("ScalingConfig") {
            scaling["MaximumConcurrency"] = CONCURRENCY.into();
        }
    }
    Ok(resources)
}

/// The template as it is deployed: with packages in place of sources, and with what the scenario needs otherwise.
fn changed(mut template: Value, changes: &Changes, bucket: &str) -> Result<Value> {
    let root = template.as_object_mut().ok_or_else(|| Problem::new("template.yaml is not a template"))?;
    let mut own = root.remove("Own").unwrap_or_default();
    if !changes.own_functions {
        // All zips share one module, and it names the queue of the test's own functions.
        own = json!({"Globals": own["Globals"].take()});
        for queue in own.pointer_mut(VARIABLES).and_then(Value::as_object_mut).into_iter().flat_map(Map::values_mut) {
            *queue = ABSENT.into();
        }
    }
    merge(&mut template, own);
    if changes.no_marks {
        template["Parameters"]["OutboxMarks"]["Default"] = "off".into();
    }
    if let Some(timeout) = changes.timeout {
        template["Globals"]["Function"]["Timeout"] = timeout.into();
    }
    for (id, resource) in fit(&mut template)? {
        let hides = resource["Type"] == "AWS::SQS::Queue" && resource["Properties"].get("VisibilityTimeout").is_some();
        if let (true, Some(visibility)) = (hides, changes.visibility) {
            resource["Properties"]["VisibilityTimeout"] = visibility.into();
        }
        if resource["Type"] == "AWS::Serverless::Function" {
            if let Some(function) = resource.as_object_mut() {
                function.remove("Metadata");
            }
            resource["Properties"]["CodeUri"] = json!({"Bucket": bucket, "Key": format!("{}.zip", kebab_case(id))});
            if let Some(events) = resource["Properties"]["Events"].as_object_mut() {
                events.retain(|event, _| !changes.without_events.contains(&(id.as_str(), event.as_str())));
            }
        }
    }
    Ok(template)
}

/// Adds to a template: to its maps, and to its lists at their ends.
fn merge(into: &mut Value, from: Value) {
    match (into, from) {
        (Value::Object(into), Value::Object(from)) => {
            for (key, value) in from {
                merge(into.entry(key).or_insert(Value::Null), value);
            }
        }
        (Value::Array(into), Value::Array(from)) => into.extend(from),
        (_, Value::Null) => {}
        (into, from) => *into = from,
    }
}

/// The binary of a logical id, as infra/Makefile derives it.
fn kebab_case(id: &str) -> String {
    let mut name = String::new();
    for (index, character) in id.char_indices() {
        if character.is_ascii_uppercase() && index > 0 {
            name.push('-');
        }
        name.push(character.to_ascii_lowercase());
    }
    name
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_binaries() {
        assert_eq!(
            ["ShoppingCart", "RouterLambda", "Greeter", "E2eFunctions"].map(kebab_case),
            ["shopping-cart", "router-lambda", "greeter", "e2e-functions"]
        );
    }

    #[test]
    fn a_template_is_changed_as_asked() {
        let template = json!({
            "Globals": {"Function": {"Timeout": {"Ref": "FunctionTimeout"}}},
            "Resources": {
                "Queue": {"Type": "AWS::SQS::Queue", "Properties": {"VisibilityTimeout": 180}},
                "Egress": {"Type": "AWS::SQS::Queue", "Properties": {}},
                "Topic": {"Type": "AWS::SNS::Topic"},
                "MaySend": {"Statement": ["a"]},
                "OldMessages": {"Type": "AWS::CloudWatch::Alarm", "Properties": {"Metrics": []}},
                "FlightsRouter": {"Type": "AWS::Serverless::Function", "Metadata": {}, "Properties": {
                    "Events": {"A": {"Type": "Kinesis"}, "B": {"Type": "SQS", "Properties": {
                        "ScalingConfig": {"MaximumConcurrency": {"Ref": "MaxConcurrency"}}}}}}},
            },
            "Own": {
                "Globals": {"Function": {"Environment": {"Variables": {"OWN_QUEUE": {"Ref": "OwnQueue"}}}}},
                "Resources": {
                    "OwnQueue": {"Type": "AWS::SQS::Queue", "Properties": {}},
                    "MaySend": {"Statement": ["b"]},
                },
            },
        });
        let (timeout, visibility) = (Some(3), Some(4));
        let changes =
            Changes { timeout, visibility, without_events: &[("FlightsRouter", "A")], own_functions: true, no_marks: true };
        let without = changed(template.clone(), &Changes::default(), "packages").unwrap();
        let changed = changed(template, &changes, "packages").unwrap();
        let expected = json!({
            "Parameters": {"OutboxMarks": {"Default": "off"}},
            "Globals": {"Function": {"Timeout": 3, "Environment": {"Variables": {"OWN_QUEUE": {"Ref": "OwnQueue"}}}}},
            "Resources": {
                "Queue": {"Type": "AWS::SQS::Queue", "Properties": {"VisibilityTimeout": 4}},
                "Egress": {"Type": "AWS::SQS::Queue", "Properties": {}},
                "Topic": {"Type": "AWS::SNS::Topic"},
                "MaySend": {"Statement": ["a", "b"]},
                "FlightsRouter": {"Type": "AWS::Serverless::Function", "Properties": {
                    "CodeUri": {"Bucket": "packages", "Key": "flights-router.zip"}, "Events": {"B": {"Type": "SQS", "Properties": {
                        "ScalingConfig": {"MaximumConcurrency": 5}}}}}},
                "OwnQueue": {"Type": "AWS::SQS::Queue", "Properties": {}},
            },
        });
        assert_eq!(changed, expected);
        assert_eq!(without.pointer(VARIABLES).unwrap()["OWN_QUEUE"], ABSENT, "the module that all share names it");
        assert_eq!(without["Resources"]["MaySend"], json!({"Statement": ["a"]}));
        assert!(without["Resources"].get("OwnQueue").is_none());
    }
}
