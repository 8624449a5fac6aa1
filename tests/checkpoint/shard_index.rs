//! The index of a model in several files: what it may name, and that it agrees with the files.

use pesi::{
    ErrorKind,
    checkpoint::{Safetensors, ShardIndex},
    error::Detail,
};

use crate::{allocation::peak_during, safetensors_hostile::parse, safetensors_writer::File};

fn index_of(entries: &[(&str, &str)]) -> String {
    let entries: Vec<String> =
        entries.iter().map(|(tensor, file)| format!("{tensor:?}:{file:?}")).collect();
    format!(r#"{{"metadata":{{"total_size":12}},"weight_map":{{{}}}}}"#, entries.join(","))
}

fn two_files() -> ShardIndex {
    let index = index_of(&[
        ("b", "model-2.safetensors"),
        ("a", "model-1.safetensors"),
        ("c", "model-2.safetensors"),
    ]);
    ShardIndex::parse(index.as_bytes()).unwrap()
}

/// A file with tensors of one byte.
fn header(names: &[&str]) -> Safetensors {
    let tensors = names.iter().zip(0..);
    let file = tensors.fold(File::default(), |file, (name, start)| {
        file.tensor(name, "U8", &[1], [start, start + 1])
    });
    parse(&file.bytes()).unwrap()
}

#[test]
fn a_sound_index_is_read() {
    let index = two_files();
    assert_eq!(index.shards(), ["model-1.safetensors", "model-2.safetensors"]);
    assert_eq!(index.tensors().collect::<Vec<_>>(), [("a", 0), ("b", 1), ("c", 1)]);
    assert_eq!((index.shard_of("c"), index.shard_of("d")), (Some(1), None));
}

#[test]
fn no_file_outside_the_folder_is_named() {
    for file in [
        "/etc/passwd.safetensors",
        "../model.safetensors",
        "..\\model.safetensors",
        "folder/model.safetensors",
        "folder\\model.safetensors",
        "C:model.safetensors",
        "https://example.org/model.safetensors",
        "%2e%2e%2fmodel.safetensors",
        "model.safetensors?a=.safetensors",
        "model.safetensors#.safetensors",
        "..safetensors",
        ".safetensors",
        "",
        "model.bin",
        "model.safetensors.exe",
        "model safetensors",
        "mödel.safetensors",
        "a..b.safetensors",
        &format!("{}.safetensors", "n".repeat(244)),
    ] {
        let json = index_of(&[("good", "model.safetensors"), ("tensor", file)]);
        let error = ShardIndex::parse(json.as_bytes()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidModel);
        assert_eq!(error.detail("tensor"), Some(&Detail::from("tensor")), "{error}");
        let excerpt: String = file.chars().take(200).collect();
        assert_eq!(error.detail("file"), Some(&Detail::from(excerpt)), "{error}");
    }
    let longest = format!("{}.safetensors", "n".repeat(243));
    assert!(ShardIndex::parse(index_of(&[("tensor", &longest)]).as_bytes()).is_ok());
}

#[test]
fn an_index_that_is_none_is_refused() {
    for json in [
        "",
        "{}",
        "[]",
        r#"{"weight_map":{}}"#,
        r#"{"weight_map":[]}"#,
        r#"{"weight_map":{"a":1}}"#,
        r#"{"weight_map":{"a":{"b":"c.safetensors"}}}"#,
        r#"{"weight_map":{"a":"b.safetensors"},"weight_map":{"a":"b.safetensors"}}"#,
        r#"{"weight_map":{"a":"b.safetensors"}"#,
        r#"{"weight_map":{"a":"b.safetensors"}}x"#,
    ] {
        let error = ShardIndex::parse(json.as_bytes()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidModel, "{json}: {error}");
    }
    let twice = index_of(&[("a", "b.safetensors"), ("b", "b.safetensors"), ("a", "b.safetensors")]);
    let error = ShardIndex::parse(twice.as_bytes()).unwrap_err();
    assert_eq!(error.detail("tensor"), Some(&Detail::from("a")));
}

#[test]
fn the_number_of_files_is_limited() {
    let names: Vec<String> = (0..4097).map(|index| format!("m{index}.safetensors")).collect();
    let entries: Vec<(&str, &str)> = names.iter().map(|name| (&**name, &**name)).collect();
    assert_eq!(ShardIndex::parse(index_of(&entries[1..]).as_bytes()).unwrap().shards().len(), 4096);
    let error = ShardIndex::parse(index_of(&entries).as_bytes()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported);
    assert_eq!(error.detail("limit"), Some(&Detail::Number(4096)));
}

#[test]
fn an_index_takes_memory_in_proportion_to_its_size() {
    let names: Vec<String> = (0..50_000).map(|index| format!("{index:x}")).collect();
    let entries: Vec<(&str, &str)> = names.iter().map(|name| (&**name, "m.safetensors")).collect();
    let json = index_of(&entries);
    let (peak, index) = peak_during(|| ShardIndex::parse(json.as_bytes()).unwrap());
    assert!(peak <= 16 * json.len() + 4096, "{peak} bytes in use for {}", json.len());
    assert_eq!(index.tensors().len(), 50_000);
}

#[test]
fn a_missing_file_is_named() {
    let index = two_files();
    index.check_files(&["config.json", "model-2.safetensors", "model-1.safetensors"]).unwrap();
    let error = index.check_files(&["config.json", "model-1.safetensors"]).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidModel);
    assert_eq!(error.detail("file"), Some(&Detail::from("model-2.safetensors")));
}

#[test]
fn files_and_index_agree_on_the_tensors() {
    let index = two_files();
    index.check_headers(&[header(&["a"]), header(&["c", "b"])]).unwrap();
    for (first, second, tensor, file) in [
        (&["a"][..], &["b"][..], "c", "model-2.safetensors"),
        (&["b"], &["a", "c"], "a", "model-1.safetensors"),
        (&["a", "b"], &["b", "c"], "b", "model-1.safetensors"),
        (&["a"], &["b", "c", "d"], "d", "model-2.safetensors"),
    ] {
        let error = index.check_headers(&[header(first), header(second)]).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidModel);
        assert_eq!(error.detail("tensor"), Some(&Detail::from(tensor)), "{error}");
        assert_eq!(error.detail("file"), Some(&Detail::from(file)), "{error}");
    }
}
