//! Files at random: damaged ones, and what must be read as it was meant.

use proptest::prelude::*;

use super::*;

/// A text with a part cut out or put in twice, or a stray character.
fn damaged(text: &'static str) -> impl Strategy<Value = String> {
    let stray = proptest::sample::select(vec![
        "", "\n", ": ", "- ", "[", "{", "\"", "&a ", "*a", "!t ", "${", "\t", "\u{7f}", "ä", "---\n",
    ]);
    (any::<prop::sample::Index>(), any::<prop::sample::Index>(), stray).prop_map(move |(from, to, stray)| {
        let edges: Vec<usize> = text.char_indices().map(|(index, _)| index).collect();
        format!("{}{stray}{}", &text[..*from.get(&edges)], &text[*to.get(&edges)..])
    })
}

fn never_panics(text: &[u8]) {
    let told = |error: InvalidModule| assert!(!error.problems.is_empty() && !error.to_string().is_empty());
    match Module::parse("m.yaml", text) {
        Ok(module) => {
            let _ = (module.resolve(&environment).map_err(told), module.resolve_local(&|_| None).map_err(told));
        }
        Err(error) => told(error),
    }
}

proptest! {
    #[test]
    fn never_panics_on_noise(noise in "[ -~\n\t${}\\[\\]&*!:,#'\"|>%@`äµ\u{0}\u{feff}\u{2028}-]{0,200}") {
        never_panics(noise.as_bytes());
    }

    #[test]
    fn never_panics_on_bytes(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        never_panics(&bytes);
    }

    #[test]
    fn never_panics_on_damaged_files(full in damaged(FULL), mistakes in damaged(MISTAKES)) {
        never_panics(full.as_bytes());
        never_panics(mistakes.as_bytes());
    }

    /// What a module says can be written down and read again.
    #[test]
    fn reads_what_was_meant(
        ids in proptest::collection::btree_set("[a-z]{1,8}/[a-z]{1,8}", 1..6),
        sqs: bool,
        attribute in "[A-Za-z_.-]{1,20}",
        keys in proptest::collection::vec("[a-zA-Z~/ \"'ä]{0,6}", 0..3),
    ) {
        let pointer: String = keys.iter().map(|key| format!("/{}", key.replace('~', "~0").replace('/', "~1"))).collect();
        let quoted = pointer.replace('\'', "''");
        let (kind, list, key) = if sqs { ("sqs", "queues", "queue") } else { ("kinesis", "streams", "stream") };
        let mut text = String::new();
        for (number, id) in ids.iter().enumerate() {
            let value_type = if sqs { format!("{{messageAttribute: '{attribute}'}}") } else { "text".to_owned() };
            text += &format!(
                "---\nkind: io.statefun.{kind}.v1/ingress\nspec:\n  id: '{id}'\n  {list}:\n    - {key}: s{number}\n      valueType: {value_type}\n      targets: ['{id}']\n      id: {{jsonPointer: '!!{quoted}'}}\n"
            );
        }
        let bad = parse(&text).resolve_local(&|_| None).unwrap_err();
        prop_assert_eq!(bad.problems.len(), ids.len());
        if pointer.is_empty() {
            return Ok(());
        }
        let module = parse(&text.replace("'!!/", "'/")).resolve_local(&|_| None).unwrap();
        prop_assert!(module.ingresses.iter().map(|ingress| ingress.id.as_str()).eq(ids.iter()));
        for (ingress, id) in module.ingresses.iter().zip(&ids) {
            let source = &ingress.sources[0];
            prop_assert_eq!(&source.targets, &[name(id)]);
            prop_assert_eq!(&source.id, &Selector::JsonPointer(JsonPointer::parse(&pointer).unwrap()));
            let value_type = if sqs { ValueType::From(Selector::MessageAttribute(attribute.clone())) } else { ValueType::Text };
            prop_assert_eq!(&source.value_type, &value_type);
        }
    }
}
