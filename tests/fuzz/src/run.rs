//! Runs targets: over what is in the corpus, or over inputs made from it.

use std::{
    collections::{HashSet, hash_map::DefaultHasher},
    fs,
    hash::{Hash, Hasher},
    io,
    panic::{self, AssertUnwindSafe},
    path::PathBuf,
    time::{Duration, Instant},
};

use fastrand::Rng;

use crate::{Check, Shape, Target, mutate::mutate};

/// No input of a few KiB may take longer. Generous: a busy machine keeps it, and what grows faster than its input does not.
const LONGEST: Duration = Duration::from_secs(5);

/// Inputs that are changed further, at most.
const POOL: usize = 20_000;

/// Tries at making an input smaller.
const SHRINKS: usize = 2_000;

/// How far a fuzz run is.
#[derive(Debug, Clone, Copy, Default)]
pub struct Progress {
    /// Inputs so far.
    pub inputs: u64,
    /// Shapes seen.
    pub shapes: usize,
    /// The slowest input.
    pub slowest: Duration,
}

/// Checks what is in the target's corpus; returns how many inputs that were.
///
/// # Errors
/// The first input that breaks a property, and which. Or the corpus cannot be read.
pub fn replay(target: &Target) -> Result<usize, String> {
    let (mut check, corpus) = ((target.start)(), corpus(target)?);
    for (path, input) in &corpus {
        try_one(&mut check, input).map_err(|problem| format!("{}: {problem}", path.display()))?;
    }
    Ok(corpus.len())
}

/// Checks inputs made from the corpus for so long; calls `show` now and then.
///
/// # Errors
/// The first input that breaks a property: which, and the file in the corpus where a small form of it is kept.
pub fn fuzz(target: &Target, time: Duration, seed: u64, mut show: impl FnMut(Progress)) -> Result<Progress, String> {
    let (mut check, mut rng, mut progress) = ((target.start)(), Rng::with_seed(seed), Progress::default());
    let (start, mut shapes, mut pool) = (Instant::now(), HashSet::new(), Vec::new());
    for (path, input) in corpus(target)? {
        let shape = try_one(&mut check, &input).map_err(|problem| format!("{}: {problem}", path.display()))?;
        shapes.insert(shape);
        pool.push(input);
    }
    pool.push(Vec::new());
    while start.elapsed() < time {
        let (input, other) = (rng.usize(0..pool.len()), rng.usize(0..pool.len()));
        let input = mutate(&mut rng, &pool[input], &pool[other], target.words);
        let began = Instant::now();
        match try_one(&mut check, &input) {
            Ok(shape) => {
                if shapes.insert(shape) && pool.len() < POOL {
                    pool.push(input);
                }
            }
            Err(problem) => return Err(keep(target, &mut check, &mut rng, input, &problem)),
        }
        progress = Progress { inputs: progress.inputs + 1, shapes: shapes.len(), slowest: progress.slowest.max(began.elapsed()) };
        if progress.inputs % 256 == 0 {
            show(progress);
        }
    }
    Ok(progress)
}

/// Checks one input; a panic breaks a property, and so does taking for ever.
fn try_one(check: &mut Check, input: &[u8]) -> Result<Shape, String> {
    let start = Instant::now();
    let checked = panic::catch_unwind(AssertUnwindSafe(|| check(input)));
    let shape = checked.unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<&str>().map(ToString::to_string);
        let text = text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_default();
        Err(format!("it panics: {text}"))
    })?;
    match start.elapsed() {
        took if took > LONGEST => Err(format!("{} bytes take {took:?}", input.len())),
        _ => Ok(shape),
    }
}

fn corpus(target: &Target) -> Result<Vec<(PathBuf, Vec<u8>)>, String> {
    let folder = target.corpus();
    let read = || -> io::Result<Vec<_>> {
        let mut files: Vec<_> = fs::read_dir(&folder)?.map(|entry| Ok(entry?.path())).collect::<io::Result<_>>()?;
        files.sort();
        files.into_iter().map(|path| fs::read(&path).map(|input| (path, input))).collect()
    };
    read().map_err(|error| format!("{}: {error}", folder.display()))
}

/// Puts a small form of a bad input into the corpus. Returns what is to be reported.
fn keep(target: &Target, check: &mut Check, rng: &mut Rng, mut input: Vec<u8>, problem: &str) -> String {
    for _ in 0..SHRINKS {
        if input.is_empty() {
            break;
        }
        let from = rng.usize(0..input.len());
        let to = (from + 1 + rng.usize(0..input.len().div_ceil(2))).min(input.len());
        let smaller = [&input[..from], &input[to..]].concat();
        if try_one(check, &smaller).is_err() {
            input = smaller;
        }
    }
    let problem = try_one(check, &input).err().unwrap_or_else(|| problem.to_owned());
    let mut hasher = DefaultHasher::new();
    input.hash(&mut hasher);
    let path = target.corpus().join(format!("found-{:016x}", hasher.finish()));
    let kept = match fs::write(&path, &input) {
        Ok(()) => format!("kept as {}", path.display()),
        Err(error) => format!("{}: {error}", path.display()),
    };
    format!("{}: {problem}\n{kept}: {}", target.name, input.escape_ascii())
}
