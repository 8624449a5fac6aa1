//! Models in GGUF that are spread over several files.

use std::fs;

use pesi::{
    ErrorKind::InvalidModel,
    engine::DeviceKind,
    session::{Description, Entry, Session},
    weights::Precision,
};

use super::{
    files::{Files, refused},
    model::{CONTEXT, Golden, NoHost, folder, put, session},
    reread::I32,
    writer::{File, value_type},
};

/// The number that GGUF gives to values of 16 bits without a sign.
const U16: u32 = 2;

const SINGLE: &str = "gguf/a1-basic.bf16.gguf";

fn name(index: usize, n_files: usize) -> String {
    format!("a1-{:05}-of-{n_files:05}.gguf", index + 1)
}

fn first(n_files: usize) -> Entry {
    Entry::Gguf(name(0, n_files))
}

/// A file of a set, and its data.
type Part = (File, Vec<u8>);

/// The model as a set of `n_files`: tensors are dealt out in turn, the first file has all metadata.
fn parts(n_files: usize) -> Vec<Part> {
    let bytes = fs::read(folder(SINGLE)).unwrap();
    let (mut whole, data) = File::read(&bytes);
    let tensors = std::mem::take(&mut whole.tensors);
    let ends = tensors.iter().skip(1).map(|tensor| tensor.offset as usize).chain([data.len()]);
    let mut parts: Vec<Part> = (0..n_files)
        .map(|index| {
            let mut file = if index == 0 { whole.clone() } else { File::new() };
            file.set("split.no", U16, (index as u16).to_le_bytes());
            file.set("split.count", U16, (n_files as u16).to_le_bytes());
            let n_tensors = tensors.len() as i32;
            file.set("split.tensors.count", I32, n_tensors.to_le_bytes());
            (file, Vec::new())
        })
        .collect();
    for (index, (tensor, end)) in tensors.iter().zip(ends).enumerate() {
        let (file, part_data) = &mut parts[index % n_files];
        let offset = part_data.len() as u64;
        part_data.extend_from_slice(&data[tensor.offset as usize..end]);
        part_data.resize(part_data.len().next_multiple_of(file.alignment), 0);
        let mut tensor = tensor.clone();
        tensor.offset = offset;
        file.tensors.push(tensor);
    }
    parts
}

fn files(parts: &[Part]) -> Files {
    let named = parts.iter().enumerate();
    let files = named.map(|(i, (file, data))| (name(i, parts.len()), file.with_data(data)));
    Files(files.collect())
}

/// The set of two files after `change`.
fn changed(change: impl FnOnce(&mut [Part])) -> Files {
    let mut parts = parts(2);
    change(&mut parts);
    files(&parts)
}

#[test]
fn a_set_has_the_logits_of_the_single_file() {
    let golden = Golden::read(&folder("a1-basic/golden.safetensors"));
    let tokens = golden.ids("p0.ids");
    let logits = |mut session: Session| {
        pollster::block_on(session.logits(&tokens, &NoHost, &|| false)).unwrap()
    };
    let expected = logits(session(&folder(SINGLE), &DeviceKind::Cpu, Precision::Exact, CONTEXT));
    for n_files in [2, 3] {
        let found = pollster::block_on(async {
            let opened = Description::open(&files(&parts(n_files)), &first(n_files)).await.unwrap();
            assert_eq!(opened.sources.len(), n_files);
            put(opened, &DeviceKind::Cpu, Precision::Exact, CONTEXT).await
        });
        assert_eq!(logits(Session::new(found.0, found.1, CONTEXT)), expected, "{n_files} files");
    }
}

#[test]
fn names_of_a_set_keep_the_spelling_of_their_ending() {
    for (first, second) in [
        ("a1-00001-of-00002.GGUF", "a1-00002-of-00002.GGUF"),
        ("A1-00001-OF-00002.Gguf", "A1-00002-OF-00002.Gguf"),
        ("é-00001-of-00002.gguf", "é-00002-of-00002.gguf"),
    ] {
        let parts = parts(2).into_iter().map(|(file, data)| file.with_data(&data));
        let files = Files([first, second].map(str::to_owned).into_iter().zip(parts).collect());
        files.open(&Entry::Gguf(first.to_owned())).unwrap();
    }
    let (file, data) = &parts(2)[0];
    for name in ["é.gguf", "1-00001-of-00002.ggufé", "a1-00001-of-00003.gguf"] {
        let files = Files([(name.to_owned(), file.with_data(data))].into());
        let expected = [name, "expected: -00001-of-00002.gguf"];
        refused(&files, &Entry::Gguf(name.to_owned()), InvalidModel, &expected);
    }
}

#[test]
fn sets_that_do_not_fit_together_are_refused() {
    let set = |key: &'static str, number: u16| {
        move |parts: &mut [Part]| parts[1].0.set(key, U16, number.to_le_bytes())
    };
    let second = name(1, 2);
    for (files, named) in [
        (changed(set("split.no", 0)), &["expected: 1", "found: 0"]),
        (changed(set("split.no", 7)), &["expected: 1", "found: 7"]),
        (changed(set("split.count", 3)), &["expected: 2", "found: 3"]),
        (changed(set("split.count", 0)), &["expected: 2", "found: 1"]),
        (
            changed(|parts| parts[1].0.set("split.no", value_type::STRING, [0; 8])),
            &["split.no", "expected: u32"],
        ),
    ] {
        refused(&files, &first(2), InvalidModel, &[named[0], named[1], &second]);
    }

    let mut files = changed(|_| {});
    files.open(&first(2)).unwrap();
    refused(
        &files,
        &Entry::Gguf(second.clone()),
        InvalidModel,
        &["not the first", &second, "expected: 0", "found: 1"],
    );
    let bytes = files.0.remove(&second).unwrap();
    refused(&files, &first(2), InvalidModel, &["missing", &second]);
    files.0.insert(second.clone(), bytes[..bytes.len() - 32].to_vec());
    refused(&files, &first(2), InvalidModel, &["outside the file", &second]);
    files.0.insert(second.clone(), b"<!doctype html>".to_vec());
    refused(&files, &first(2), InvalidModel, &["not a GGUF file", &second]);

    let bytes = files.0.remove(&name(0, 2)).unwrap();
    files.0.insert("renamed.gguf".to_owned(), bytes);
    let renamed = Entry::Gguf("renamed.gguf".to_owned());
    refused(&files, &renamed, InvalidModel, &["renamed.gguf", "expected: -00001-of-00002.gguf"]);
}

#[test]
fn sets_of_absurdly_many_files_are_refused() {
    let files = changed(|parts| parts[0].0.set("split.count", U16, u16::MAX.to_le_bytes()));
    let named = [&*name(0, 2), "found: 65535", "limit: 1000"];
    refused(&files, &first(2), pesi::ErrorKind::Unsupported, &named);
}

#[test]
fn tensors_stand_in_one_file_each_and_are_all_there() {
    let twice = changed(|parts| {
        let mut tensor = parts[0].0.tensors[0].clone();
        tensor.offset = parts[1].1.len() as u64;
        let contents = parts[0].1[..40_960].to_vec();
        parts[1].1.extend(contents);
        parts[1].0.tensors.push(tensor);
    });
    let (a, b) = (name(0, 2), name(1, 2));
    let named = ["two files", "token_embd.weight", &format!("first: {a}"), &format!("second: {b}")];
    refused(&twice, &first(2), InvalidModel, &named);

    let absent = changed(|parts| drop(parts[1].0.tensors.pop()));
    let named = ["split.tensors.count", &*name(0, 2), "expected: 79", "found: 78"];
    refused(&absent, &first(2), InvalidModel, &named);
}
