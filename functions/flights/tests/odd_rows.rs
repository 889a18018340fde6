//! Rows that cannot be read are reported by line and reason, and change nothing else.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test that cannot go on should panic")]

mod common;

use std::{collections::BTreeMap, fs, future::pending};

use flights::local::{self, Job};
use lambda_statefun::local::store::Letter;
use tempfile::TempDir;

/// What is put before some of the week's rows, and why it cannot be read. Two good rows in other clothes are among them.
const ODD: [(&str, Option<&str>); 10] = [
    ("nonsense", Some("1 fields")),
    ("2013,2,30,517,515,2,830,819,11,UA,1,N1,EWR,IAH,227,1400,5,15,t", Some("`2013-2-30` is not a date")),
    ("2013,1,1,late,515,2,830,819,11,UA,1,N1,EWR,IAH,227,1400,5,15,t", Some("`dep_time` is `late`")),
    ("2013,1,1,517,515,2,830,819,11,UA,1,N1,,IAH,227,1400,5,15,t", Some("`origin` is missing")),
    ("2013,1,1,517,515,2,830,819,11,UA,1,N1,EWR,NA,227,1400,5,15,t", Some("`dest` is missing")),
    ("2013,1,1,517,515,x,830,819,11,UA,1,N1,EWR,IAH,227,1400,5,15,t", Some("`dep_delay` is `x`")),
    ("2013,1,1,517,515,2,830,819,11,UA,1,N1,EWR,IAH,227,1400,5,15,t,more", Some("20 fields")),
    ("2013,1,1,517,515,2,830,819,11,UA,1,\u{fffd},EWR,IAH,227,1400,5,15", Some("18 fields")),
    ("", None),
    ("\"2013\",1,1,,515,,,819,,UA,1,,\"EWR\",IAH,,1400,5,15,\"a,b\"", None),
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn unreadable_rows_go_to_the_dead_letters_with_line_and_reason() {
    let week = fs::read_to_string(common::week()).unwrap();
    let (mut text, mut clean, mut expected) = (String::new(), String::new(), BTreeMap::new());
    let mut odd = ODD.iter().cycle();
    let mut line_number = 0;
    for (index, line) in week.lines().take(700).enumerate() {
        if index > 0 && index % 11 == 0 {
            let (odd, reason) = odd.next().unwrap();
            line_number += 1;
            text += &format!("{odd}\r\n");
            match reason {
                Some(reason) => drop(expected.insert(format!("line {line_number}"), *reason)),
                None if odd.is_empty() => {}
                None => clean += &format!("{}\n", odd.replace("a,b", "t").replace('"', "")),
            }
        }
        line_number += 1;
        text += &format!("{line}\r\n");
        clean += &format!("{line}\n");
    }
    let folder = TempDir::new().unwrap();
    let job = Job { input: folder.path().join("odd.csv"), data: folder.path().join("data") };
    fs::write(&job.input, text).unwrap();
    let outcome = local::run(&job, |_| {}, pending()).await.unwrap();
    let mut report = common::reference::report(&clean);
    report["dead_letters"] = expected.len().into();
    common::assert_same(&serde_json::to_value(&outcome.report).unwrap(), &report);

    let host = local::open(&job.data).unwrap();
    let letters = host.store().letters(None, 1_000).unwrap();
    assert_eq!(letters.len(), expected.len());
    for letter in letters {
        let Letter::Malformed(letter) = letter else { panic!("{letter:?}") };
        let reason = expected[&letter.position];
        assert!(letter.reason.contains(reason), "{}: {} should say {reason}", letter.position, letter.reason);
    }
}
