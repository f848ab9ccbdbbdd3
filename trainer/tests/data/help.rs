//! Help of every command, as it is stored in `tests/snapshots`.

use std::process::Command;

use crate::snapshot::check;

#[test]
fn help_of_every_command() {
    let heads = ["staging", "risk", "apnea"];
    let of_heads = ["finetune", "evaluate"].map(|command| heads.map(|head| [command, head]));
    let commands =
        ["import", "preprocess", "split", "pretrain", "embed", "synth", "export", "verify"];
    let mut all: Vec<Vec<&str>> = vec![Vec::new()];
    all.extend(commands.iter().map(|&command| vec![command]));
    all.extend(of_heads.iter().flatten().map(|words| words.to_vec()));
    for words in all {
        let output = Command::new(env!("CARGO_BIN_EXE_sfm-train"))
            .args(&words)
            .arg("--help")
            .output()
            .expect("it runs");
        assert!(output.status.success(), "{words:?}: {output:?}");
        let name = format!("help_train_{}", words.join("_"));
        check(name.trim_end_matches('_'), &String::from_utf8_lossy(&output.stdout));
    }
}
