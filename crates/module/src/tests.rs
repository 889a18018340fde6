//! Whole files: good ones, and what is said of bad ones.

mod random;

use std::fs;

use statefun_core::{BuiltInForm, TypeName};

use super::{problem::MAX_PROBLEMS, *};

const FULL: &str = include_str!("../golden/full.yaml");
const MISTAKES: &str = include_str!("../golden/mistakes.yaml");
const FUNCTIONS: &str = include_str!("../golden/functions.yaml");

fn name(text: &str) -> TypeName {
    TypeName::parse(text).unwrap()
}

fn environment(name: &str) -> Option<String> {
    Some(match name {
        "GREETER_QUEUE" => "https://sqs.eu-west-1.amazonaws.com/1/shards-0.fifo".to_owned(),
        "GREETINGS_QUEUE" => "http://localhost:4566/000000000000/greetings".to_owned(),
        "NAMES_STREAM" | "OUT_STREAM" => name.to_lowercase(),
        "REGION" => "eu-west-1".to_owned(),
        _ => return None,
    })
}

fn said(text: &str) -> String {
    match Module::parse("m.yaml", text).and_then(|module| module.resolve(&environment)) {
        Ok(module) => panic!("{module:?}"),
        Err(error) => error.to_string(),
    }
}

fn parse(text: &str) -> ModuleFile {
    Module::parse("m.yaml", text).unwrap()
}

/// To be written anew with `UPDATE_GOLDEN=1`, and then to be read.
#[test]
fn golden_reports() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/golden");
    for (name, text) in [("mistakes", MISTAKES), ("functions", FUNCTIONS)] {
        let set = ["NAMES_STREAM", "REGION", "PATH"].map(str::to_owned);
        let file = Module::parse("infra/module.yaml", text).unwrap().suggesting(set);
        let report = format!("{}\n", file.resolve(&|name| environment(name).filter(|_| name == "REGION")).unwrap_err());
        let golden = format!("{folder}/{name}.txt");
        if std::env::var_os("UPDATE_GOLDEN").is_some() {
            fs::write(&golden, &report).unwrap();
        }
        assert_eq!(report, fs::read_to_string(golden).unwrap());
    }
}

#[test]
fn every_kind_and_key() {
    let module = parse(FULL).resolve(&environment).unwrap();
    assert_eq!((module.functions.len(), module.ingresses.len(), module.egresses.len()), (2, 2, 3));
    assert_eq!(
        module.queues_of(&name("example/greeter")).unwrap(),
        ["https://sqs.eu-west-1.amazonaws.com/1/shards-0.fifo", "https://sqs.eu-west-1.amazonaws.com/1/shards-1.fifo"]
    );
    assert_eq!(module.queues_of(&name("shop/cart")).unwrap(), ["https://sqs.eu-west-1.amazonaws.com/1/carts.fifo"]);
    assert_eq!(module.queues_of(&name("shop/user")), module.queues_of(&name("example/greeter")));
    assert_eq!(module.queues_of(&name("example/other")), None);

    let names = module.ingress(&name("example/names")).unwrap();
    let [first, second] = &names.sources[..] else { panic!("{names:?}") };
    let greeter = vec![name("example/greeter")];
    let plain = Source {
        location: "names_stream".into(),
        value_type: ValueType::Named(name("example/greet")),
        targets: greeter.clone(),
        id: Selector::PartitionKey,
        deduplication_key: None,
        text_columns: Vec::new(),
    };
    assert_eq!(*first, plain);
    let pointer = |text| Selector::JsonPointer(JsonPointer::parse(text).unwrap());
    assert_eq!((&second.id, &second.deduplication_key), (&pointer("/na~1me"), &Some(pointer("/key"))));
    assert_eq!((&second.targets, &second.value_type), (&greeter, &ValueType::Text));

    let of = |location: &str| module.ingress_of(SourceKind::Sqs, location).map(|(ingress, source)| (ingress.id.as_str(), source));
    let (id, orders) = of("arn:aws:sqs:eu-west-1:1:orders.fifo").unwrap();
    assert_eq!((id, &orders.id), ("shop/orders", &Selector::MessageGroupId));
    assert_eq!(orders.deduplication_key, Some(Selector::MessageDeduplicationId));
    assert_eq!(of("returns").unwrap().1.deduplication_key, Some(Selector::MessageAttribute("key".into())));
    assert_eq!(of("https://queue/1/plain-name").unwrap().1.id, Selector::MessageId);
    assert_eq!(of("names_stream"), None, "a stream is not a queue");
    assert!(module.ingress_of(SourceKind::Kinesis, "arn:aws:kinesis:eu-west-1:1:stream/texts").is_some());

    let to = |id: &str| module.egress(&name(id)).unwrap().destination.clone();
    assert_eq!(to("example/greetings"), Destination::Queue("http://localhost:4566/000000000000/greetings".into()));
    assert_eq!(to("flights/alerts"), Destination::Topic("arn:aws:sns:eu-west-1:1:alerts".into()));
    assert_eq!(to("example/out"), Destination::Stream("${OUT}-out_stream".into()));
}

#[test]
fn an_egress_may_ask_for_statefuns_form_of_built_in_types() {
    let egress = |option: &str| format!("kind: io.statefun.sqs.v1/egress\nspec: {{id: a/b, queue: https://x/y{option}}}");
    for (option, form) in [
        ("", BuiltInForm::Text),
        (", builtInTypes: text", BuiltInForm::Text),
        (", builtInTypes: protobuf", BuiltInForm::Protobuf),
    ] {
        assert_eq!(parse(&egress(option)).resolve(&environment).unwrap().egresses[0].built_in, form, "{option}");
    }
    let wrong = said(&egress(", builtInTypes: protobuff"));
    assert!(wrong.contains("`builtInTypes` cannot be `protobuff`") && wrong.contains("did you mean `protobuf`?"), "{wrong}");
}

#[test]
fn what_is_missing_is_told_together() {
    let parsed = parse(FULL);
    let error = parsed.resolve(&|name| environment(name).filter(|_| name != "REGION" && name != "GREETER_QUEUE")).unwrap_err();
    let said: Vec<_> = error.problems.iter().map(|problem| (problem.message.as_str(), problem.place.line)).collect();
    let missing = |name: &str| format!("the environment variable `{name}` is not set");
    assert_eq!(said, [(missing("GREETER_QUEUE").as_str(), 5), (missing("REGION").as_str(), 57)]);
    assert!(error.to_string().contains("5 |   queues: [\"${GREETER_QUEUE}\""), "{error}");
    let local = parsed.resolve_local(&|_| None).unwrap();
    assert_eq!(local.ingresses[0].sources[0].name(), "${NAMES_STREAM}");
    assert_eq!(local.egresses[1].destination, Destination::Topic("arn:aws:sns:${REGION}:1:alerts".into()));
    assert_eq!(local.functions[0].queues[0], "${GREETER_QUEUE}");
    // Only what names something on AWS may stay open.
    let open = parse("kind: io.statefun.sqs.v1/egress\nspec: {id: \"a/${X}\", queue: https://x/y}");
    assert!(open.resolve_local(&|_| None).unwrap_err().to_string().contains("`X` is not set"));
}

#[test]
fn mistakes_that_only_variables_show() {
    let parsed = parse(FULL);
    let swapped = |name: &str| match name {
        "GREETER_QUEUE" => Some("greeter".to_owned()),
        "NAMES_STREAM" => Some("texts".to_owned()),
        "GREETINGS_QUEUE" => Some(String::new()),
        other => environment(other),
    };
    let error = parsed.resolve(&swapped).unwrap_err();
    let said: Vec<_> = error.problems.iter().map(|problem| (problem.message.as_str(), problem.place.line)).collect();
    let expected =
        [("`greeter` is not the URL of a FIFO queue", 5), ("the stream `texts` is declared twice", 26), ("`queue` is empty", 54)];
    assert_eq!(said, expected);
}

#[test]
fn targets_have_queues() {
    let ingress = "kind: io.statefun.sqs.v1/ingress\nspec:\n  id: a/in\n  queues: [{queue: q, valueType: text, targets: [a/b], id: messageId}]\n";
    assert!(said(ingress).contains("no `functions` have the target `a/b`"));
    let parsed = parse(ingress);
    assert_eq!(parsed.resolve_local(&|_| None).unwrap().ingresses[0].sources[0].targets, [name("a/b")]);
    let functions = "---\nkind: io.statefun.lambda.v1/functions\nspec: {functions: [a/bc], queues: [https://x/1/q.fifo]}\n";
    assert!(said(&format!("{ingress}{functions}")).contains("did you mean `a/bc`?"));
}

#[test]
fn a_target_may_be_of_functions_that_cannot_be_read() {
    let ingress = "kind: io.statefun.sqs.v1/ingress\nspec:\n  id: a/in\n  queues: [{queue: q, valueType: text, targets: [a/b], id: messageId}]\n---\n";
    let told = |rest: &str| said(&format!("{ingress}{rest}")).contains("have the target");
    let queue = "queues: [https://x/1/q.fifo]";
    for unclear in [
        format!("kind: io.statefun.lambda.v1/functions\nspec: {{function: [a/b], {queue}}}"),
        format!("kind: io.statefun.lambda.v1/functions\nspec: {{functions: [b], {queue}}}"),
        format!("kind: io.statefun.lambda.v1/functions\nspec: {{functions: [\"${{X}}\"], {queue}}}"),
        format!("spec: {{functions: [a/b], {queue}}}"),
        "kind: functions".to_owned(),
        "kind: io.statefun.lambda.v1/functions\nspec: {functions: [c/d".to_owned(),
    ] {
        assert!(!told(&unclear), "{unclear}");
    }
    for clear in [
        format!("kind: io.statefun.lambda.v1/functions\nspec: {{functions: [c/d], queue: [], {queue}}}"),
        format!("kind: io.statefun.lambda.v1/function\nspec: {{functions: [c/d, c/d], {queue}}}"),
        "kind: io.statefun.sqs.v1/egres".to_owned(),
    ] {
        assert!(told(&clear), "{clear}");
    }
}

#[test]
fn a_queue_has_one_role() {
    let functions = "kind: io.statefun.lambda.v1/functions\nspec: {functions: [a/*], queues: [\"https://x/1/${Q}.fifo\"]}\n---\n";
    let ingress = |queue: &str| {
        format!(
            "kind: io.statefun.sqs.v1/ingress\nspec: {{id: a/in, queues: [{{queue: \"{queue}\", valueType: text, targets: [a/b], id: messageId}}]}}\n---\n"
        )
    };
    let egress = |id: &str, url: &str| format!("kind: io.statefun.sqs.v1/egress\nspec: {{id: a/{id}, queue: \"{url}\"}}\n---\n");
    let q = |_: &str| Some("q".to_owned());
    let told = |text: &str| match parse(text).resolve(&q) {
        Ok(_) => String::new(),
        Err(error) => error.problems.iter().map(|problem| format!("{}: {}; ", problem.place.line, problem.message)).collect(),
    };
    let text = format!("{functions}{}{}", ingress("arn:aws:sqs:eu-west-1:1:q.fifo"), egress("out", "https://y/1/q.fifo"));
    let carries = "this queue already carries messages to functions (line 2)";
    assert_eq!(told(&text), format!("5: {carries}; 8: {carries}; "));
    let text = format!("{}{}{functions}", egress("out", "https://y/1/q.fifo"), egress("more", "https://y/1/q.fifo"));
    assert_eq!(told(&text), "8: this queue already takes the records of an egress (line 2); ", "two egresses may share one");
    let text = format!("{}{functions}{}", ingress("q"), egress("out", "https://y/1/q"));
    assert_eq!(told(&text), "8: this queue is already read by an ingress (line 2); ");
    let open = format!("{}{}", ingress("${ANY}"), egress("out", "${ANY}"));
    assert!(parse(&open).resolve_local(&|_| None).is_err(), "the same queue, whatever it is");
    assert_eq!(told(&format!("{functions}{}{}", ingress("in"), egress("out", "https://y/1/out"))), "");
}

#[test]
fn the_nearest_variable_that_is_not_used_is_suggested() {
    let text = "kind: io.statefun.sqs.v1/egress\nspec: {id: a/b, queue: \"${ORDER_QUEUE}${SHARD_1}${SHARD_0}\"}";
    let set = ["SHARD_0", "ORDERS_QUEUE", "HOME"].map(str::to_owned);
    let error = parse(text).suggesting(set).resolve(&|name| (name == "SHARD_0").then(String::new)).unwrap_err();
    let helps: Vec<_> = error.problems.iter().filter_map(|problem| problem.help.as_deref()).collect();
    assert_eq!(
        helps,
        ["`ORDERS_QUEUE` is set: did you mean that?", "set it where this program is started, or write the value here"]
    );
}

#[test]
fn what_is_not_utf8_is_told() {
    let error = Module::parse("m.yaml", b"\xef\xbb\xbf# a\n# gr\xc3\xbc\xdfe\n").unwrap_err();
    assert_eq!(
        error.to_string(),
        "error: the file is not UTF-8 from here on\n --> m.yaml:2:6\n  |\n2 | # gr\u{fc}\u{fffd}e\n  |      ^ save it as UTF-8"
    );
}

#[test]
fn what_is_not_yaml_is_told_with_what_came_before_it() {
    let text = said("kind: x\n---\nkind: io.statefun.sqs.v1/egress\nspec: {queue: ${X}}\n");
    assert!(text.contains("`x` is not a kind") && text.contains("this is not YAML"), "{text}");
    assert!(text.contains("m.yaml:4:") && text.contains("put quotes around"), "{text}");
    assert!(said("a: *nowhere").contains("this is not YAML"));
    assert!(said("a: &a [*a]").contains("inside of what it names"));
}

/// YAML 1.2 has no merge keys; read half, they would leave keys out without a word.
#[test]
fn merge_keys_are_refused_with_advice_and_aliases_of_values_are_read() {
    let ingress = |second: &str| {
        format!(
            "kind: io.statefun.kinesis.v1/ingress\nspec:\n  id: a/in\n  streams:\n    - &s {{stream: one, valueType: text, targets: &t [a/b]}}\n    - {second}\n"
        )
    };
    let told = said(&ingress("{<<: *s, stream: two}"));
    assert!(told.contains("merge keys (`<<`) are not read") && told.contains("write the keys out"), "{told}");
    assert!(told.contains("m.yaml:6:8") && !told.contains("has no key"), "{told}");
    let module = parse(&ingress("{stream: two, valueType: text, targets: *t}")).resolve_local(&|_| None).unwrap();
    assert_eq!(module.ingresses[0].sources[1].targets, [name("a/b")]);
}

#[test]
fn a_stream_may_be_named_by_a_consumer_of_it() {
    const ARN: &str = "arn:aws:kinesis:eu-west-1:1:stream/names";
    let text = |streams: &[&str], egress: &str| {
        let streams: String =
            streams.iter().map(|stream| format!("{{stream: \"{stream}\", valueType: text, targets: [a/b]}}, ")).collect();
        format!(
            "kind: io.statefun.kinesis.v1/ingress\nspec: {{id: a/in, streams: [{streams}]}}\n---\nkind: io.statefun.kinesis.v1/egress\nspec: {{id: a/out, stream: \"{egress}\"}}\n"
        )
    };
    let consumer = format!("{ARN}/consumer/statefun:1570000000");
    let module = parse(&text(&[&consumer], ARN)).resolve_local(&|_| None).unwrap();
    assert_eq!(module.ingresses[0].sources[0].name(), "names");
    for location in [ARN, &consumer, "names"] {
        assert!(module.ingress_of(SourceKind::Kinesis, location).is_some(), "{location}");
    }
    assert!(said(&text(&[&consumer, "names"], ARN)).contains("the stream `names`"), "one stream, read twice");
    assert!(said(&text(&["names"], &consumer)).contains("this is the ARN of a consumer"));
    for bad in ["/consumer/", "/consumer/c", "/consumer/c:", "/consumer/:1", "/consumer/c:1:2", "/consumer/a/b:1", "/x"] {
        assert!(said(&text(&[&format!("{ARN}{bad}")], ARN)).contains("does not name a stream"), "{bad}");
    }
    assert!(said(&text(&["arn:aws:kinesis:eu-west-1:1:stream/"], ARN)).contains("does not name a stream"));
}

#[test]
fn nothing_grows_without_bound() {
    let bomb = (0..9).fold("a0: &a0 [x]\n".to_owned(), |text, level| {
        let items = vec![format!("*a{level}"); 10].join(", ");
        format!("{text}a{}: &a{} [{items}]\n", level + 1, level + 1)
    });
    assert!(said(&bomb).contains("those repeated by aliases included"));
    assert!(said(&format!("a: {}", "[".repeat(100))).contains("levels"));
    let long = Module::parse("m.yaml", format!("# {}", "x".repeat(1 << 20))).unwrap_err().to_string();
    assert!(long.contains("at most 1048576") && long.len() < 500, "{long}");
    let missing = said(&format!("kind: io.statefun.sqs.v1/egress\nspec: {{id: a/b, queue: \"{}\"}}", "${X}".repeat(100_000)));
    assert_eq!(missing.matches("error: ").count(), MAX_PROBLEMS);
    let many = said(&"kind: x\n---\n".repeat(5_000));
    assert_eq!(many.matches("error: ").count(), MAX_PROBLEMS);
}

/// A copy of the line for each mistake would take 50 GB.
#[test]
fn a_long_line_of_mistakes_is_told_shortly() {
    let items = vec!["abcde"; 90_000].join(",");
    let text = format!("kind: io.statefun.lambda.v1/functions\nspec: {{functions: [{items}], queues: [https://x/1/q.fifo]}}\n");
    assert!(text.len() > 500_000);
    let problems = parse(&text).resolve(&environment).unwrap_err().problems;
    assert_eq!((problems.len(), problems[99].place.column), (MAX_PROBLEMS, 20 + 99 * 6));
    assert!(problems.iter().all(|problem| problem.line.len() < 500));
    let long = said(&format!("kind: x\nspec: {{{}: 1}}", "y".repeat(200_000)));
    assert!(long.len() < 5_000, "{}", long.len());
}

#[test]
fn tags_have_no_meaning() {
    for tag in ["!!str", "!Ref", "!!binary", "!<tag:yaml.org,2002:int>"] {
        let text = said(&format!("kind: {tag} io.statefun.sqs.v1/egress\nspec: {{id: a/b, queue: https://x/y}}\n"));
        assert!(text.contains("has no meaning here") && text.contains("${NAME}"), "{tag}: {text}");
    }
    assert!(said("kind: !!str x").contains("the tag `!!str`"));
}

#[test]
fn only_fifo_queues_have_deduplication_ids() {
    let with = |queue: &str| {
        format!(
            "kind: io.statefun.sqs.v1/ingress\nspec:\n  id: a/in\n  queues: [{{queue: \"{queue}\", valueType: text, targets: [a/b], id: messageId, deduplicationKey: messageDeduplicationId}}]\n---\nkind: io.statefun.lambda.v1/functions\nspec: {{functions: [a/*], queues: [https://x/1/q.fifo]}}\n"
        )
    };
    let refused = "this queue is none";
    assert!(said(&with("https://x/1/orders")).contains(refused));
    let open = parse(&with("${ORDERS_QUEUE}"));
    let to = |url: &'static str| move |_: &str| Some(url.to_owned());
    assert!(open.resolve(&to("https://x/1/orders")).unwrap_err().to_string().contains(refused));
    assert!(open.resolve(&to("https://x/1/orders.fifo")).is_ok());
    let local = open.resolve_local(&|_| None).unwrap();
    assert!(local.ingresses[0].sources[0].may_be_fifo());
    assert!(open.resolve_local(&to("orders")).unwrap_err().to_string().contains(refused));
}

#[test]
fn examples_of_the_documentation_are_right() {
    let text = include_str!("../../../docs/module.md");
    let examples: Vec<_> = text.split("```yaml\n").skip(1).filter_map(|rest| rest.split("```").next()).collect();
    assert!(examples.len() > 4);
    for example in examples {
        if let Err(error) = Module::parse("docs/module.md", example).and_then(|module| module.resolve_local(&|_| None)) {
            // Not every example declares the functions that it names.
            let others = error.problems.iter().filter(|problem| !problem.message.contains("have the target"));
            assert_eq!(others.count(), 0, "{error}");
        }
    }
}

#[test]
fn the_module_of_this_repository_is_right() {
    let parsed = Module::parse("infra/module.yaml", include_str!("../../../infra/module.yaml"));
    let module = parsed.and_then(|module| module.resolve_local(&|_| None)).unwrap_or_else(|error| panic!("{error}"));
    assert!(!module.functions.is_empty());
}

#[test]
fn an_empty_file_declares_nothing() {
    for text in ["", "\u{feff}# nothing\n", "---\n---\nnull\n"] {
        assert_eq!(parse(text).resolve(&environment).unwrap(), Module::default());
    }
    assert!(said("\u{feff}kind: x").contains("m.yaml:1:7"));
}
