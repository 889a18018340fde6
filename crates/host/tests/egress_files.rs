//! Files of egresses, seen from outside: whatever their names and whatever others do to them, every record is in them once, and what
//! is not the host's stays.
#![cfg(unix)]
#![allow(clippy::unwrap_used, reason = "helpers of tests, too")]

mod common;

use std::{collections::HashSet, fs, io::Write, net::SocketAddr, os::unix::fs::symlink, path::Path};

use common::{
    folder, lines, post,
    process::{finish, finish_well, said, serve_if_asked, start, start_unread, wait_for, words},
    request,
};

#[test]
fn a_host_in_a_process_of_its_own() {
    serve_if_asked();
}

fn rows(path: &Path, rows: impl Iterator<Item = usize>) {
    let mut file = fs::OpenOptions::new().create(true).append(true).open(path).unwrap();
    let text: String = rows.map(|row| format!("{{\"id\":\"a{row}\"}}\n")).collect();
    file.write_all(text.as_bytes()).unwrap();
}

/// What the records hold, and lines of others as they are.
fn values(path: &Path) -> Vec<String> {
    let text = fs::read_to_string(path).unwrap_or_default();
    let value = |line: &str| {
        let record: serde_json::Value = serde_json::from_str(line).ok()?;
        Some(record["value"].as_str()?.to_owned())
    };
    text.lines().map(|line| value(line).unwrap_or_else(|| line.to_owned())).collect()
}

/// The lines as older versions wrote them: built-in strings in their protobuf wrapper.
fn former(lines: &str) -> String {
    let former = |line: &str| {
        let value = serde_json::from_str::<serde_json::Value>(line).unwrap()["value"].as_str().unwrap().to_owned();
        let wrapper = statefun_core::TypedValue::of(&value).unwrap().value.unwrap();
        let base64 = base64::Engine::encode(&base64::engine::general_purpose::STANDARD, wrapper);
        line.replace(&format!("\"value\":\"{value}\""), &format!("\"base64\":\"{base64}\"")) + "\n"
    };
    lines.lines().map(former).collect()
}

fn length(path: &Path) -> u64 {
    fs::metadata(path).map_or(0, |metadata| metadata.len())
}

/// Every record of `test/out` that any of these files has, once.
fn assert_once(files: &[&Path], count: usize) {
    let all: Vec<_> = files.iter().flat_map(|file| lines(file)).collect();
    let distinct: HashSet<_> = all.iter().collect();
    assert_eq!((all.len(), distinct.len()), (count, count), "records, and distinct ones");
}

#[test]
fn a_folder_that_is_named_in_another_way_after_a_kill_doubles_no_record() {
    const ROWS: usize = 30_000;
    let (_keep, at) = folder();
    rows(&at.join("rows.jsonl"), 0..ROWS);
    fs::create_dir(at.join("d")).unwrap();
    symlink("d", at.join("link")).unwrap();
    let out = at.join("d/egress/test/out.jsonl");
    let arguments =
        |data: &str| words(&format!("--data {data} --input rows.jsonl --to test/counter --id id --type test/order --until-idle"));
    let absolute = at.join("d").display().to_string();
    for data in ["d", "./d", &absolute, "link", "link/../d", "d/.", "./link"] {
        let before = length(&out);
        let host = start(&at, arguments(data));
        wait_for(|| (length(&out) > before + 200_000).then_some(()));
        host.kill();
    }
    fs::rename(at.join("d"), at.join("e")).unwrap();
    finish_well(&at, arguments("e"));
    assert_once(&[&at.join("e/egress/test/out.jsonl")], ROWS);
}

#[test]
fn a_file_of_another_place_is_never_cut() {
    let (_keep, at) = folder();
    for place in ["one", "two", "three"] {
        fs::create_dir(at.join(place)).unwrap();
    }
    let foreign: String = (0..314).map(|line| format!("what somebody else wrote, line {line}\n")).collect();
    fs::write(at.join("two/out.jsonl"), &foreign).unwrap();
    // It even begins like the first one.
    let egress = "--egress test/out=file:out.jsonl";
    let input = |number: usize| {
        rows(&at.join("rows.jsonl"), number..number + 1);
        words(&format!(
            "--data {0}/d --input {0}/rows.jsonl --to test/counter --id id --type test/order --until-idle {egress}",
            at.display()
        ))
    };
    finish_well(&at.join("one"), input(0));
    let one = fs::read_to_string(at.join("one/out.jsonl")).unwrap();
    fs::write(at.join("three/out.jsonl"), one.clone() + &foreign).unwrap();
    finish_well(&at.join("two"), input(1));
    let two = fs::read_to_string(at.join("two/out.jsonl")).unwrap();
    assert!(two.starts_with(&foreign) && two.len() > foreign.len(), "{} bytes of {} are left", two.len(), foreign.len());
    finish_well(&at.join("three"), input(2));
    let three = fs::read_to_string(at.join("three/out.jsonl")).unwrap();
    assert!(three.starts_with(&(one.clone() + &foreign)), "what stands behind our own records is not ours");
    finish_well(&at.join("one"), input(3));
    assert_eq!(lines(&at.join("one/out.jsonl")), ["a0 1", "a3 1"]);
}

#[test]
fn a_link_that_leads_elsewhere_cuts_nothing() {
    let (_keep, at) = folder();
    fs::write(at.join("foreign"), "no line end at the end of this").unwrap();
    symlink("one.jsonl", at.join("out.jsonl")).unwrap();
    let input = |number: usize| {
        rows(&at.join("rows.jsonl"), number..number + 1);
        words(
            "--data d --input rows.jsonl --to test/counter --id id --type test/order --until-idle --egress test/out=file:out.jsonl",
        )
    };
    finish_well(&at, input(0));
    fs::remove_file(at.join("out.jsonl")).unwrap();
    symlink("foreign", at.join("out.jsonl")).unwrap();
    finish_well(&at, input(1));
    let text = fs::read_to_string(at.join("foreign")).unwrap();
    assert_eq!(values(&at.join("foreign")), ["no line end at the end of this", "a1 1"], "{text}");
    assert_eq!(lines(&at.join("one.jsonl")), ["a0 1"]);
}

#[test]
fn egresses_that_reach_one_file_are_refused() {
    let (_keep, at) = folder();
    let mut count = 0;
    symlink("x.jsonl", at.join("link.jsonl")).unwrap();
    fs::write(at.join("x.jsonl"), "").unwrap();
    fs::hard_link(at.join("x.jsonl"), at.join("hard.jsonl")).unwrap();
    let arguments = |one: &str, other: &str| {
        let egresses = [("out", one), ("other", other)].map(|(name, path)| match path {
            "" => String::new(),
            path => format!("--egress test/{name}=file:{path}"),
        });
        words(&format!("--data d --input rows.jsonl --to test/both --id id --until-idle {}", egresses.join(" ")))
    };
    for (one, other) in [
        ("x.jsonl", "./x.jsonl"),
        ("x.jsonl", "d/../x.jsonl"),
        ("x.jsonl", "link.jsonl"),
        ("x.jsonl", "hard.jsonl"),
        ("", "d/egress/test/out.jsonl"),
        ("./d/egress/test/other.jsonl", ""),
    ] {
        rows(&at.join("rows.jsonl"), count..count + 10);
        count += 10;
        let output = finish(&at, arguments(one, other));
        let said = said(&output);
        assert!(!output.status.success() && said.contains("another egress"), "{one} {other}: {said}");
    }
    // Nothing is lost by it.
    finish_well(&at, arguments("y.jsonl", "z.jsonl"));
    let of = |id: usize| format!("a{id}");
    for file in ["y.jsonl", "z.jsonl"] {
        let all: HashSet<_> = [file, "x.jsonl", "d/egress/test/out.jsonl", "d/egress/test/other.jsonl"]
            .into_iter()
            .flat_map(|file| lines(&at.join(file)))
            .collect();
        assert_eq!(all, (0..count).map(of).collect(), "{file}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_file_that_another_host_writes_is_refused() {
    let (_keep, at) = folder();
    rows(&at.join("rows.jsonl"), 0..3);
    let arguments = |data: &str, rest: &str| words(&format!("--data {data} --egress test/out=file:./out.jsonl {rest}"));
    let mut host = start(&at, arguments("one", "--listen 127.0.0.1:0"));
    send(host.address(&at.join("one")), "b").await;
    wait_for(|| (length(&at.join("out.jsonl")) > 0).then_some(()));
    let input = "--input rows.jsonl --to test/counter --id id --type test/order --until-idle";
    let output = finish(&at, arguments("two", input));
    assert!(!output.status.success() && said(&output).contains("another egress or host"), "{}", said(&output));
    host.kill();
    finish_well(&at, arguments("two", input));
    let mut all = lines(&at.join("out.jsonl"));
    all.sort();
    assert_eq!(all, ["a0 1", "a1 1", "a2 1", "b 1"]);
}

async fn send(to: SocketAddr, id: &str) {
    let reply = post(to, &format!("/test/counter/{id}"), "application/json", &format!("{{\"id\":\"{id}\"}}")).await;
    assert_eq!(reply.status, 202, "{}", reply.body);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_file_that_is_cut_moved_or_deleted_while_the_host_runs_is_gone_on_with_at_its_end() {
    let (_keep, at) = folder();
    let mut host = start(&at, words("--data d --listen 127.0.0.1:0"));
    let to = host.address(&at.join("d"));
    let out = at.join("d/egress/test/out.jsonl");
    // Waits until the file has this, and the host has forgotten the records.
    let wait = async |expected: &[&str]| {
        for _ in 0..2_000 {
            if values(&out) == expected && request(to, "GET", "/_/health", &[], b"").await.json()["egress_waiting"] == 0 {
                return;
            }
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
        panic!("{expected:?}, and not {:?}", values(&out));
    };
    send(to, "a").await;
    wait(&["a 1"]).await;
    // A rotation that copies and cuts.
    fs::OpenOptions::new().write(true).open(&out).unwrap().set_len(0).unwrap();
    send(to, "a").await;
    wait(&["a 2"]).await;
    // Somebody adds a line.
    fs::OpenOptions::new().append(true).open(&out).unwrap().write_all(b"a note\n").unwrap();
    send(to, "a").await;
    wait(&["a 2", "a note", "a 3"]).await;
    // A rotation that renames.
    fs::rename(&out, at.join("out.1")).unwrap();
    send(to, "a").await;
    wait(&["a 4"]).await;
    fs::remove_file(&out).unwrap();
    send(to, "a").await;
    wait(&["a 5"]).await;
    // Its folder, too.
    fs::remove_dir_all(at.join("d/egress")).unwrap();
    send(to, "a").await;
    wait(&["a 6"]).await;
    host.kill();
}

/// What versions before this one kept: the length alone, under the path as it was spelled.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_lengths_and_lines_of_older_versions_are_gone_on_from() {
    let (_keep, at) = folder();
    rows(&at.join("rows.jsonl"), 0..20);
    let out = |data: &str| at.join(data).join("egress/test/out.jsonl");
    let run =
        |data: &str| words(&format!("--data {data} --input rows.jsonl --to test/counter --id id --type test/order --until-idle"));
    let mut host = start(&at, words("--data d --listen 127.0.0.1:0"));
    let to = host.address(&at.join("d"));
    // While a folder is in the file's place, records wait.
    fs::create_dir_all(out("d")).unwrap();
    for id in 0..20 {
        send(to, &format!("a{id}")).await;
    }
    for _ in 0..2_000 {
        match request(to, "GET", "/_/health", &[], b"").await.json()["egress_waiting"] == 20 {
            true => break,
            false => tokio::time::sleep(std::time::Duration::from_millis(5)).await,
        }
    }
    host.kill();
    fs::remove_dir(out("d")).unwrap();
    let copies = ["torn", "whole", "foreign", "shorter", "former", "former-torn"];
    for copy in copies {
        fs::create_dir_all(out(copy).parent().unwrap()).unwrap();
        for file in ["data.redb", "statefun.json"] {
            fs::copy(at.join("d").join(file), at.join(copy).join(file)).unwrap();
        }
    }
    rows(&at.join("none.jsonl"), 0..0);
    let nothing = |data: &str| {
        let mut arguments = run(data);
        arguments[3] = "none.jsonl".to_owned();
        arguments
    };
    finish_well(&at, nothing("d"));
    let all = fs::read_to_string(out("d")).unwrap();
    assert_eq!(values(&out("d")).len(), 20);
    let (before, half) = ("{\"id\":\"an older record\"}\n", all.len() / 2);
    let former = former(&all);
    let kept = &former[..former[..half].rfind('\n').unwrap() + 1];
    let (kept, rest) = (kept, &all[all.match_indices('\n').nth(kept.lines().count() - 1).unwrap().0 + 1..]);
    for (copy, noted, found, expected) in [
        ("torn", before.len(), format!("{before}{}", &all[..half]), format!("{before}{all}")),
        ("whole", before.len(), format!("{before}{all}"), format!("{before}{all}")),
        ("foreign", before.len(), format!("{before}of others\n"), format!("{before}of others\n{all}")),
        ("shorter", 9_999, before.to_owned(), format!("{before}{all}")),
        ("former", before.len(), format!("{before}{former}"), format!("{before}{former}")),
        ("former-torn", before.len(), format!("{before}{}", &former[..half]), format!("{before}{kept}{rest}")),
    ] {
        let host = common::open(&at.join(copy));
        let key = format!("egress:test/out:{}", Path::new(copy).join("egress/test/out.jsonl").display());
        host.store().set_cursor(&key, noted.to_string().into_bytes()).unwrap();
        host.shutdown().await.unwrap();
        fs::write(out(copy), &found).unwrap();
        finish_well(&at, nothing(copy));
        assert_eq!(fs::read_to_string(out(copy)).unwrap(), expected, "{copy}");
    }
}

#[test]
fn a_host_whose_standard_output_is_closed_ends() {
    let (_keep, at) = folder();
    rows(&at.join("rows.jsonl"), 0..10);
    let input = "--data d --input rows.jsonl --to test/counter --id id --type test/order --until-idle";
    let mut host = start_unread(&at, words(&format!("{input} --egress test/out=stdout")));
    assert_eq!(host.end(), Some(1));
    finish_well(&at, words(input));
    assert_once(&[&at.join("d/egress/test/out.jsonl")], 10);
}
