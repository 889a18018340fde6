//! Folders that cannot be opened, and what is said about them.

use std::{fs, path::Path};

use super::*;
use crate::{OpenError, erase};

fn open(fixture: &Fixture) -> Result<Embedded, OpenError> {
    Embedded::open(fixture.path(), fixture.options.clone(), fixture.hand.clock())
}

#[test]
fn a_folder_in_use() {
    let fixture = Fixture::new();
    let store = fixture.open();
    let error = open(&fixture).unwrap_err();
    assert!(matches!(error, OpenError::Locked { pid: Some(pid), .. } if pid == std::process::id()), "{error}");
    assert!(error.to_string().contains("in use by process"));
    drop(store);
    fixture.open();
}

#[test]
fn a_new_folder_with_parents() {
    let fixture = Fixture::new();
    let dir = fixture.path().join("a/b");
    drop(Embedded::open(&dir, Options::default(), fixture.hand.clock()).unwrap());
    let marker = fs::read_to_string(dir.join("statefun.json")).unwrap();
    assert!(marker.contains("\"format\": 2"), "{marker}");
    Embedded::open(&dir, Options::default(), fixture.hand.clock()).unwrap();
}

#[test]
fn somebody_elses_folder_is_left_alone() {
    let fixture = Fixture::new();
    fs::write(fixture.path().join("thesis.txt"), "precious").unwrap();
    assert!(matches!(open(&fixture).unwrap_err(), OpenError::NotAStateFolder { .. }));
    assert_eq!(fs::read_dir(fixture.path()).unwrap().count(), 1);
}

#[test]
fn erasing_takes_what_is_ours_and_nothing_else() {
    let fixture = Fixture::new();
    let dir = fixture.path();
    let owned = |path: &Path, kind: fs::FileType| (path == Path::new("out") && kind.is_dir()) || path == Path::new("out/a");
    fs::create_dir(dir.join("other")).unwrap();
    fs::write(dir.join("other/thesis.txt"), "precious").unwrap();
    assert!(matches!(erase(dir, &owned).unwrap_err(), OpenError::NotAStateFolder { .. }));
    fs::rename(dir.join("other"), dir.with_extension("other")).unwrap();

    let store = fixture.open();
    assert!(matches!(erase(dir, &owned).unwrap_err(), OpenError::Locked { .. }));
    drop(store);
    fs::rename(dir.with_extension("other"), dir.join("other")).unwrap();
    fs::create_dir(dir.join("out")).unwrap();
    for file in ["out/a", "out/b"] {
        fs::write(dir.join(file), "x").unwrap();
    }
    let error = erase(dir, &owned).unwrap_err();
    assert!(matches!(&error, OpenError::Foreign { what, .. } if what == "`other`, `out/b`"), "{error}");
    assert!(["data.redb", "statefun.json", "other/thesis.txt", "out/a"].iter().all(|file| dir.join(file).exists()));

    fs::remove_dir_all(dir.join("other")).unwrap();
    fs::remove_file(dir.join("out/b")).unwrap();
    for damage in [false, true] {
        if damage {
            drop(fixture.open());
            for file in ["data.redb", "statefun.json"] {
                fs::write(dir.join(file), "{").unwrap();
            }
        }
        erase(dir, &owned).unwrap();
        let left: Vec<_> = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(left, ["lock"]);
    }
    drop(fixture.open());
    erase(&dir.join("nothing"), &owned).unwrap();
}

#[cfg(unix)]
#[test]
fn erasing_follows_no_link() {
    let fixture = Fixture::new();
    drop(fixture.open());
    let elsewhere = Fixture::new();
    fs::write(elsewhere.path().join("a"), "precious").unwrap();
    std::os::unix::fs::symlink(elsewhere.path(), fixture.path().join("out")).unwrap();
    assert!(matches!(erase(fixture.path(), &|_, _| true).unwrap_err(), OpenError::Foreign { .. }));
    assert!(elsewhere.path().join("a").exists());
}

#[test]
fn a_file_is_no_folder() {
    let fixture = Fixture::new();
    let file = fixture.path().join("file");
    fs::write(&file, "x").unwrap();
    let error = Embedded::open(&file, Options::default(), fixture.hand.clock()).unwrap_err();
    assert!(matches!(error, OpenError::Io { .. }), "{error}");
}

#[test]
fn what_a_crash_left_while_it_was_made_is_no_obstacle() {
    let fixture = Fixture::new();
    for leftover in ["lock", "statefun.json.new"] {
        fs::write(fixture.path().join(leftover), "half").unwrap();
    }
    drop(fixture.open());
    fs::remove_file(fixture.path().join("data.redb")).unwrap();
    fs::write(fixture.path().join("data.redb.new"), "half").unwrap();
    fixture.open();
    assert!(!fixture.path().join("data.redb.new").exists());
}

#[test]
fn a_newer_format() {
    let fixture = Fixture::new();
    drop(fixture.open());
    fs::write(fixture.path().join("statefun.json"), "{\"what\":\"state\",\"format\":3,\"more\":true}").unwrap();
    let error = open(&fixture).unwrap_err();
    assert!(matches!(error, OpenError::NewerFormat { found: 3, known: 2, .. }), "{error}");
}

/// The version that made it does not open it any more: it would not understand what is written from now on.
#[test]
fn an_older_format_becomes_this_one() {
    let fixture = Fixture::new();
    drop(fixture.open());
    fs::write(fixture.path().join("statefun.json"), "{\"what\":\"state\",\"format\":1}").unwrap();
    drop(fixture.open());
    let marker = fs::read_to_string(fixture.path().join("statefun.json")).unwrap();
    assert!(marker.contains("\"format\": 2"), "{marker}");
}

#[test]
fn a_newer_format_inside() {
    use crate::{
        batch::{Batch, Table},
        disk::Disk,
        tables::meta,
    };
    let fixture = Fixture::new();
    drop(fixture.open());
    let disk = Disk::open(&fixture.path().join("data.redb"), 1 << 20, false).unwrap();
    let mut batch = Batch::default();
    batch.put(Table::Meta, meta::FORMAT_KEY.into(), meta::encode_format(7), false);
    disk.apply(&batch).unwrap();
    drop(disk);
    assert!(matches!(open(&fixture).unwrap_err(), OpenError::NewerFormat { found: 7, .. }));
}

#[tokio::test]
async fn damaged_data_are_reported() {
    let fixture = Fixture::new();
    let store = fixture.open();
    put(&store, &address("a"), 0..5_000).await;
    store.close().await.unwrap();
    let path = fixture.path().join("data.redb");
    let whole = fs::read(&path).unwrap();
    let mut noticed = 0;
    for part in 0..12 {
        let mut bytes = whole.clone();
        let at = bytes.len() * part / 12 + 500;
        bytes[at..at + 16].iter_mut().for_each(|byte| *byte = !*byte);
        fs::write(&path, bytes).unwrap();
        match open(&fixture) {
            Err(OpenError::Damaged { detail, .. }) => noticed += usize::from(!detail.is_empty()),
            Err(other) => panic!("{other}"),
            Ok(store) => assert_eq!(drain(&store).unwrap(), 5_000, "nothing that is used was hit"),
        }
    }
    assert!(noticed > 3, "{noticed}");
}

/// Files too big to be verified when they are opened: damage shows where rows are read, as an error and not as a wrong value.
#[tokio::test]
async fn a_changed_row_is_never_returned() {
    let fixture = Fixture::with(Options { verify_bytes: 0, ..Options::default() });
    let store = fixture.open();
    put(&store, &address("a"), 0..5_000).await;
    store.close().await.unwrap();
    let path = fixture.path().join("data.redb");
    let whole = fs::read(&path).unwrap();
    let mut noticed = 0;
    for part in 0..12 {
        let mut bytes = whole.clone();
        let at = bytes.len() * part / 12 + 9_000;
        bytes[at..at + 16].iter_mut().for_each(|byte| *byte = !*byte);
        fs::write(&path, bytes).unwrap();
        match open(&fixture).map(|store| drain(&store)) {
            Ok(Ok(count)) => assert!(count <= 5_000),
            Ok(Err(_)) | Err(OpenError::Damaged { .. }) => noticed += 1,
            Err(other) => panic!("{other}"),
        }
    }
    assert!(noticed > 3, "{noticed}");
}

#[test]
fn not_our_file_and_no_marker() {
    for (name, content) in [("data.redb", "this is not a database, but long enough to look like one"), ("statefun.json", "{")] {
        let fixture = Fixture::new();
        drop(fixture.open());
        fs::write(fixture.path().join(name), content).unwrap();
        let error = open(&fixture).unwrap_err();
        assert!(matches!(error, OpenError::Damaged { .. }), "{name}: {error:?}");
        assert!(error.to_string().contains("restore a copy"));
    }
}

fn drain(store: &Embedded) -> Result<usize, statefun_engine::ports::PortError> {
    let lane = store.try_ready()?.unwrap_or_else(|| address("a"));
    let received = store.receive(&lane, usize::MAX, usize::MAX)?;
    for delivered in &received {
        assert_eq!(*delivered.envelope, envelope(&lane, number(&delivered.envelope)));
    }
    Ok(received.len())
}
