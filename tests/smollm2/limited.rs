//! Tests in a process whose addresses are limited, so that the software adapter refuses memory as a real
//! one does; it promises any amount else.

use std::{env, process::Command};

const LIMITED: &str = "PESI_TEST_IN_LIMITED_PROCESS";

/// Runs `body` in a process of its own that has `gigabytes` of addresses; `name` is the test's own.
pub fn with_addresses(gigabytes: u64, name: &str, body: impl FnOnce()) {
    if env::var_os(LIMITED).is_some() {
        return body();
    }
    let limit = format!("ulimit -v {} && exec \"$0\" \"$@\"", gigabytes << 20);
    let output = Command::new("sh")
        .args(["-c", &limit])
        .arg(env::current_exe().unwrap())
        .args(["--exact", name, "--nocapture"])
        .env(LIMITED, "1")
        .output()
        .unwrap();
    let told = [output.stdout, output.stderr].map(|bytes| String::from_utf8(bytes).unwrap());
    println!("{}", told.concat());
    assert!(output.status.success(), "{}", output.status);
    assert!(told[0].contains("1 passed"), "{name} is the name of a test");
}
