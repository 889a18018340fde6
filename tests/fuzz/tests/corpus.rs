//! The inputs of all fuzz targets, replayed.

use statefun_fuzz::{TARGETS, replay};

#[test]
fn no_input_of_the_corpus_breaks_a_property() {
    let problems: Vec<_> = TARGETS.iter().filter_map(|target| replay(target).err()).collect();
    assert!(problems.is_empty(), "{}", problems.join("\n"));
    for target in TARGETS {
        assert!(replay(target).unwrap() >= 4, "{} has hardly any inputs", target.name);
    }
}
