//! Answers at temperature 1: those that end are what was demanded, whatever the model.

use std::{fs, path::Path, time::Instant};

use pesi::{
    ErrorKind,
    chat::harmony::{Harmony, MessageKind},
    constrain::Constraint,
    engine::DeviceKind,
    gpu::context::AdapterHints,
    sampler::{EXCLUDED, SamplingParams},
    session::{Demands, FinishReason, Request, Session, TokenEvent, Tool, ToolChoice},
    weights::Precision,
};
use serde_json::Value;

use super::{gpt_oss, smollm2};

/// Schemas of `tests/golden/schemas` whose instances are short even where they are drawn at random.
const SCHEMAS: [&str; 12] = [
    "boolean",
    "const",
    "date",
    "enum",
    "integer_range",
    "ipv4",
    "mixed_enum",
    "multiple_of",
    "one_of_disjoint",
    "pattern",
    "string_length",
    "uuid",
];

pub fn schema(name: &str) -> Value {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/schemas");
    let file = fs::read(folder.join(format!("{name}.json"))).unwrap();
    serde_json::from_slice::<Value>(&file).unwrap()["schema"].take()
}

/// Asserts that a text is JSON that the schema describes, formats included.
pub fn check(schema: &Value, text: &str, what: &str) {
    assert_eq!(problems(schema, text), [""; 0], "{what}: {text}");
}

/// Why a text is not JSON that the schema describes, formats included.
pub fn problems(schema: &Value, text: &str) -> Vec<String> {
    let instance: Value = match serde_json::from_str(text) {
        Ok(instance) => instance,
        Err(error) => return vec![format!("no JSON: {error}")],
    };
    let validator =
        jsonschema::options().should_validate_formats(true).build(schema).expect("a schema");
    validator.iter_errors(&instance).map(|error| error.to_string()).collect()
}

/// A message: what it is for, whom it is to, what it says.
pub type Said<'a> = (MessageKind, Option<&'a str>, String);

pub struct Answer {
    pub events: Vec<TokenEvent>,
    pub has_ended: bool,
}

impl Answer {
    pub fn text(&self) -> String {
        self.events.iter().map(|event| event.piece.text.as_str()).collect()
    }

    /// The messages of the answer.
    pub fn messages(&self) -> Vec<Said<'_>> {
        let mut messages: Vec<(usize, Said<'_>)> = Vec::new();
        for event in &self.events {
            assert_eq!(event.piece.malformed, None);
            let Some(message) = &event.piece.message else { continue };
            if messages.last().is_none_or(|(index, _)| *index != message.index) {
                let header = &message.header;
                let entry = (header.kind(), header.recipient.as_deref(), String::new());
                messages.push((message.index, entry));
            }
            messages.last_mut().unwrap().1.2.push_str(&event.piece.text);
        }
        messages.into_iter().map(|(_, message)| message).collect()
    }
}

pub fn run(session: &mut Session, request: &Request) -> pesi::Result<Answer> {
    let mut events = Vec::new();
    let mut take = |batch: &[TokenEvent]| {
        events.extend_from_slice(batch);
        Ok(())
    };
    let run = session.generate(request, &gpt_oss::NoHost, &|| false, &mut take);
    let summary = pollster::block_on(run)?;
    Ok(Answer { events, has_ended: summary.finish_reason == FinishReason::Stop })
}

pub fn request(tokens: Vec<u32>, max_tokens: usize, seed: u64, demands: Demands) -> Request {
    Request {
        tokens,
        max_tokens: Some(max_tokens),
        sampling: SamplingParams { temperature: 1.0, seed, ..Default::default() },
        reuse_prefix: true,
        chat: true,
        demands,
        ..Default::default()
    }
}

pub fn answering(schema: &Value) -> Demands {
    Demands { answer: Some(Constraint::JsonSchema(schema.to_string())), ..Default::default() }
}

pub const PROMPT: &str = "<|im_start|>user\nAnswer with JSON.<|im_end|>\n<|im_start|>assistant\n";

#[test]
fn answers_of_a_real_model_are_what_their_schema_describes() {
    let gpu = DeviceKind::Gpu(AdapterHints::default());
    for (device, n_schemas) in [(DeviceKind::Cpu, SCHEMAS.len()), (gpu, 4)] {
        let started = Instant::now();
        let mut session = smollm2::open(&device, 256);
        let tokens = session.tokenizer().encode(PROMPT).unwrap();
        let (mut n_ended, mut n_tokens) = (0, 0);
        for (seed, name) in (0..).zip(SCHEMAS.iter().take(n_schemas)) {
            let schema = schema(name);
            let request = request(tokens.clone(), 60, seed, answering(&schema));
            let answer = run(&mut session, &request).unwrap();
            n_tokens += answer.events.len();
            if answer.has_ended {
                n_ended += 1;
                check(&schema, &answer.text(), &format!("{device:?}, {name}"));
            }
            println!("{name}: {}", answer.text());
        }
        println!("{n_ended} of {n_schemas} ended, {n_tokens} tokens, {:.0?}", started.elapsed());
        assert!(n_ended + 2 >= n_schemas, "{device:?}: {n_ended} of {n_schemas} ended");
    }
}

#[test]
fn other_grammars_and_biases_hold_in_answers() {
    let mut session = smollm2::open(&DeviceKind::Cpu, 256);
    let tokens = session.tokenizer().encode(PROMPT).unwrap();
    let word = |session: &Session, text: &str| session.tokenizer().encode(text).unwrap()[0];
    let regex = Demands {
        answer: Some(Constraint::Regex("(yes|no|maybe)[.!]".to_owned())),
        ..Default::default()
    };
    for seed in 0..20 {
        let mut request = request(tokens.clone(), 20, seed, regex.clone());
        request.sampling.logit_bias = vec![(word(&session, "yes"), EXCLUDED)];
        let answer = run(&mut session, &request).unwrap();
        assert!(answer.has_ended);
        let text = answer.text();
        assert!(["yes.", "yes!", "no.", "no!", "maybe.", "maybe!"].contains(&&*text), "{text}");
        assert_ne!(answer.events[0].token, request.sampling.logit_bias[0].0);
    }
    // A grammar that leaves one way, and that is barred.
    let only = Demands { answer: Some(Constraint::Regex("7".to_owned())), ..Default::default() };
    let mut request = request(tokens, 20, 0, only);
    request.sampling.logit_bias = vec![(word(&session, "7"), EXCLUDED)];
    let error = run(&mut session, &request).err().unwrap();
    assert_eq!(error.kind(), ErrorKind::InvalidArgument);
    assert_eq!(
        error.to_string(),
        "no token is left that the answer may go on with (parameter: logit_bias)"
    );
    request.sampling.logit_bias.clear();
    assert_eq!(run(&mut session, &request).unwrap().text(), "7");
    request.demands = calling(ToolChoice::Required);
    assert_eq!(run(&mut session, &request).err().unwrap().kind(), ErrorKind::Unsupported);
}

/// A model of random weights that speaks harmony, whose prompt ends where an answer starts, and a bias
/// without which it would never come to an end of its thoughts.
pub fn random_model(device: &DeviceKind) -> (Session, Vec<u32>, Vec<(u32, f32)>) {
    let path = gpt_oss::folder("a1-basic");
    let session = gpt_oss::session(&path, device, Precision::Exact, 512);
    let harmony = Harmony::new(session.tokenizer()).unwrap();
    let tokens = harmony.answer_start(session.tokenizer()).unwrap();
    let end = harmony.end_id();
    (session, tokens, vec![(end, 9.0)])
}

fn two_devices() -> impl Iterator<Item = DeviceKind> {
    gpt_oss::devices().into_iter().take(2)
}

#[test]
fn the_last_message_of_harmony_is_what_its_schema_describes() {
    for device in two_devices() {
        let (mut session, tokens, bias) = random_model(&device);
        let (mut n_ended, mut n_thought, mut n) = (0, 0, 0);
        for (seed, name) in (0..36).zip(SCHEMAS.iter().cycle()) {
            let schema = schema(name);
            let mut request = request(tokens.clone(), 160, seed, answering(&schema));
            request.sampling.logit_bias.clone_from(&bias);
            let answer = run(&mut session, &request).unwrap();
            n += 1;
            let messages = answer.messages();
            let kinds: Vec<MessageKind> = messages.iter().map(|message| message.0).collect();
            let allowed = [&[MessageKind::Analysis, MessageKind::Final][..], &[MessageKind::Final]];
            if answer.has_ended {
                n_ended += 1;
                assert!(allowed.contains(&&*kinds), "{device:?}, {name}: {kinds:?}");
                n_thought += usize::from(kinds.len() == 2);
                let text = &messages.last().unwrap().2;
                check(&schema, text, &format!("{device:?}, {name}, seed {seed}"));
            }
        }
        println!("{device:?}: {n_ended} of {n} ended, {n_thought} after a thought");
        assert!(n_ended * 4 >= n * 3 && n_thought > 3, "{n_ended} of {n}, {n_thought}");
    }
}

pub fn calling(tool_choice: ToolChoice) -> Demands {
    let tool = |name: &str, schema_of: &str| Tool {
        name: name.to_owned(),
        parameters: schema(schema_of).to_string(),
        strict: true,
    };
    Demands {
        answer: None,
        tools: vec![tool("set_unit", "enum"), tool("pick", "one_of_disjoint")],
        tool_choice,
        single_call: false,
    }
}

#[test]
fn calls_are_those_demanded_with_arguments_of_their_schemas() {
    for device in two_devices() {
        let (mut session, tokens, bias) = random_model(&device);
        let mut called = [0, 0];
        let named = ["pick", "set_unit"].map(|name| ToolChoice::Named(name.to_owned()));
        for choice in named.into_iter().chain([ToolChoice::Required, ToolChoice::Auto]) {
            for seed in 0..10 {
                let demands = calling(choice.clone());
                let mut request = request(tokens.clone(), 160, seed, demands);
                request.sampling.logit_bias.clone_from(&bias);
                let answer = run(&mut session, &request).unwrap();
                let messages = answer.messages();
                if !answer.has_ended {
                    continue;
                }
                let (kind, recipient, text) = messages.last().unwrap();
                let what = format!("{device:?}, {choice:?}, seed {seed}: {messages:?}");
                if choice != ToolChoice::Auto {
                    assert_eq!(*kind, MessageKind::ToolCall, "{what}");
                }
                if *kind == MessageKind::ToolCall {
                    let pick = *recipient == Some("functions.pick");
                    assert!(pick || *recipient == Some("functions.set_unit"), "{what}");
                    if let ToolChoice::Named(name) = &choice {
                        assert_eq!(recipient.unwrap(), format!("functions.{name}"), "{what}");
                    }
                    check(&schema(if pick { "one_of_disjoint" } else { "enum" }), text, &what);
                    called[usize::from(pick)] += 1;
                }
            }
        }
        println!("{device:?}: calls of each {called:?}");
        assert!(called[0] > 0 && called[1] > 0, "{device:?}: {called:?}");
        for seed in 0..5 {
            let mut request = request(tokens.clone(), 60, seed, calling(ToolChoice::None));
            request.sampling.logit_bias.clone_from(&bias);
            let answer = run(&mut session, &request).unwrap();
            let has_call = |(kind, ..): &Said<'_>| *kind == MessageKind::ToolCall;
            assert!(!answer.messages().iter().any(has_call), "{device:?}, seed {seed}");
        }
    }
}

#[test]
fn demands_that_contradict_each_other_are_refused() {
    let (mut session, tokens, _) = random_model(&DeviceKind::Cpu);
    let mut refuse = |demands: Demands| {
        run(&mut session, &request(tokens.clone(), 4, 0, demands)).err().unwrap().to_string()
    };
    let no_tools = Demands { tool_choice: ToolChoice::Required, ..Default::default() };
    assert!(refuse(no_tools).contains("there are no tools"));
    let other = calling(ToolChoice::Named("other".to_owned()));
    assert!(refuse(other).contains("found: other"));
    let mut twice = calling(ToolChoice::Auto);
    twice.tools[1].name = "set_unit".to_owned();
    assert!(refuse(twice).contains("the same name"));
    let mut odd = calling(ToolChoice::Auto);
    odd.tools[0].name = "a<|call|>".to_owned();
    assert!(refuse(odd).contains("letters, digits"));
    let mut unserved = calling(ToolChoice::Auto);
    unserved.tools[1].parameters = r#"{"not":{}}"#.to_owned();
    let error = refuse(unserved);
    assert!(error.contains("keyword: not") && error.contains("tool: pick"), "{error}");
}
