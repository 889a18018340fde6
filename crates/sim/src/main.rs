//! Scratch.
fn main() {
    let mut args = std::env::args().skip(1);
    let from: u64 = args.next().and_then(|a| a.parse().ok()).unwrap_or(0);
    let n: u64 = args.next().and_then(|a| a.parse().ok()).unwrap_or(100);
    let print = args.next().is_some();
    let mut bad = 0;
    let (mut inv, mut com, mut looks, mut fenced, mut letters) = (0, 0, 0, 0, 0);
    for seed in from..from + n {
        let r = statefun_sim::trial(seed, Default::default(), print);
        inv += r.invocations; com += r.commits; looks += r.looks; fenced += r.fenced; letters += r.letters;
        if !r.problems.is_empty() {
            bad += 1;
            if bad < 8 { println!("seed {seed}: {:#?}", &r.problems[..r.problems.len().min(6)]); }
        }
    }
    println!("{n} seeds {bad} bad, {inv} invocations {com} commits {looks} looks {fenced} fenced {letters} letters");
}
