//! Generations that give way to each other.

use std::cell::Cell;

use pesi::{
    Result,
    constrain::Constraint,
    sampler::SamplingParams,
    session::{Demands, Generation, Guessing, Host, Request, Session, Summary, TokenEvent},
    source::LocalFuture,
};

use super::models::{CONTEXT, all, prompt, request};

/// Surroundings in which each look at the clock takes a while, and others wait or do not.
struct Busy {
    now: Cell<f64>,
    is_awaited: bool,
}

impl Busy {
    fn new(is_awaited: bool) -> Self {
        Self { now: Cell::new(0.0), is_awaited }
    }
}

impl Host for Busy {
    fn now(&self) -> f64 {
        self.now.set(self.now.get() + 100.0);
        self.now.get()
    }

    fn yield_now(&self) -> LocalFuture<'_, ()> {
        Box::pin(async {})
    }

    fn is_awaited(&self) -> bool {
        self.is_awaited
    }
}

/// A generation, and what came of it so far.
struct Answer {
    generation: Generation,
    events: Vec<TokenEvent>,
    n_turns: usize,
    summary: Option<Summary>,
}

impl Answer {
    fn begin(session: &mut Session, request: &Request) -> Self {
        let generation = session.begin(request.clone()).unwrap();
        Self { generation, events: Vec::new(), n_turns: 0, summary: None }
    }

    /// Lets it have a turn.
    fn run(&mut self, session: &mut Session, host: &Busy) {
        let events = &mut self.events;
        let mut take = |batch: &[TokenEvent]| -> Result<()> {
            events.extend_from_slice(batch);
            Ok(())
        };
        let run = session.run(&mut self.generation, host, &|| false, &mut take);
        self.summary = pollster::block_on(run).unwrap();
        self.n_turns += 1;
    }
}

/// Lets answers take turns until all are over.
fn take_turns(session: &mut Session, requests: &[Request]) -> Vec<Answer> {
    let host = Busy::new(true);
    let mut answers: Vec<_> =
        requests.iter().map(|request| Answer::begin(session, request)).collect();
    while answers.iter().any(|answer| answer.summary.is_none()) {
        for answer in answers.iter_mut().filter(|answer| answer.summary.is_none()) {
            answer.run(session, &host);
            assert!(session.set_aside_bytes() <= session.memory().caches);
        }
    }
    answers
}

/// What a request leads to where nothing else is asked for, and nothing is left of what was.
fn alone(session: &mut Session, request: &Request) -> Answer {
    let mut answer = Answer::begin(session, &Request { reuse_prefix: false, ..request.clone() });
    answer.run(session, &Busy::new(false));
    assert!(answer.summary.is_some(), "it gave way to nobody");
    answer
}

/// Requests that have everything that a generation has to keep: counts of tokens, the number of the draw,
/// characters and stop strings that are not complete, messages, grammars, the likeliest tokens.
fn requests(session: &Session) -> Vec<Request> {
    let penalized = SamplingParams {
        temperature: 0.9,
        top_p: 0.95,
        repetition_penalty: 1.3,
        frequency_penalty: 0.5,
        presence_penalty: 0.2,
        logit_bias: vec![(7, 2.0)],
        top_logprobs: 3,
        seed: 11,
        ..Default::default()
    };
    let digits =
        Demands { answer: Some(Constraint::Regex("[0-9]{40}".to_owned())), ..Default::default() };
    let is_harmony = session.chat().is_some_and(|chat| chat.name() == "harmony");
    vec![
        Request { sampling: penalized, ..request(prompt(30, 1), 40) },
        Request {
            stop: vec!["never said by chance".to_owned()],
            chat: is_harmony,
            ..request(prompt(90, 2), 40)
        },
        Request { demands: digits, ..request(prompt(12, 3), 40) },
        Request { sampling: SamplingParams::default(), ..request(prompt(100, 4), 5) },
    ]
}

#[test]
fn answers_that_take_turns_are_those_that_they_are_alone() {
    for (name, open) in all() {
        let mut session = open();
        let requests = requests(&session);
        let mut other = open();
        let expected: Vec<_> = requests.iter().map(|request| alone(&mut other, request)).collect();
        let answers = take_turns(&mut session, &requests);
        for (index, (found, expected)) in answers.iter().zip(&expected).enumerate() {
            assert_eq!(found.events, expected.events, "{name}, request {index}");
            let [found_summary, expected_summary] =
                [found, expected].map(|answer| answer.summary.unwrap());
            let numbers = |summary: Summary| {
                (summary.finish_reason, summary.prompt_tokens, summary.completion_tokens)
            };
            assert_eq!(numbers(found_summary), numbers(expected_summary), "{name}, {index}");
        }
        let turns: Vec<_> = answers.iter().map(|answer| answer.n_turns).collect();
        println!("{name}: {turns:?} turns");
        assert!(turns[..3].iter().all(|n| *n >= 3), "{name}: {turns:?}");
        drop(answers);
        let in_use = session.in_use();
        assert_eq!(session.dispose(), in_use, "{name}");
    }
}

/// With guesses, of which some are wrong, in windows that the context goes beyond.
#[test]
fn guesses_change_nothing_however_turns_are_taken() {
    for (name, open) in all().into_iter().filter(|(name, _)| name.ends_with("Cpu")) {
        // Tokens that come again and again are likely to be guessed, and to be drawn.
        let repeated = |seed| prompt(12, seed).repeat(5);
        let likely = prompt(12, 1).into_iter().map(|token| (token, 12.0)).collect();
        let requests = [
            Request { sampling: SamplingParams::default(), ..request(repeated(1), 150) },
            Request {
                sampling: SamplingParams {
                    temperature: 0.5,
                    seed: 3,
                    repetition_penalty: 1.1,
                    logit_bias: likely,
                    top_logprobs: 2,
                    ..Default::default()
                },
                ..request(repeated(1), CONTEXT - 60)
            },
            Request { stop: vec!["never said by chance".to_owned()], ..request(repeated(2), 90) },
        ];
        let mut other = open();
        other.guessing = Guessing::Never;
        let mut session = open();
        session.guessing = Guessing::Always;
        let expected: Vec<_> = requests.iter().map(|request| alone(&mut other, request)).collect();
        for (index, request) in requests.iter().enumerate() {
            let found = alone(&mut session, request);
            assert!(found.events == expected[index].events, "{name}, request {index}");
        }
        let answers = take_turns(&mut session, &requests);
        let (mut n_guessed, mut n_accepted) = (0, 0);
        for (index, (found, expected)) in answers.iter().zip(&expected).enumerate() {
            assert!(found.events == expected.events, "{name}, request {index}, in turns");
            n_guessed += found.summary.unwrap().guessed_tokens;
            n_accepted += found.summary.unwrap().accepted_tokens;
        }
        println!("{name}: {n_accepted} of {n_guessed} guesses are right");
        assert!(0 < n_accepted && n_accepted < n_guessed, "{name}");
    }
}

#[test]
fn a_short_answer_comes_before_the_end_of_a_long_one() {
    for (name, open) in all() {
        let mut session = open();
        let host = Busy::new(true);
        let mut long = Answer::begin(&mut session, &request(prompt(20, 1), 200));
        long.run(&mut session, &host);
        let n_before = long.events.len();
        let mut short = Answer::begin(&mut session, &request(prompt(20, 2), 1));
        short.run(&mut session, &host);
        assert_eq!(short.events.len(), 1, "{name}");
        // A look at the clock takes 100 ms here, and a slice is 500 ms.
        assert!((1..=20).contains(&n_before), "{name}: {n_before} tokens before a turn was over");
        assert!(long.summary.is_none() && host.now() < 5000.0, "{name}");
    }
}

/// Prompts are computed in turns as well.
#[test]
fn a_long_prompt_gives_way_too() {
    let (name, open) = all().remove(0);
    let request = request(prompt(240, 1), 4);
    let expected = alone(&mut open(), &request);
    let mut session = open();
    let other = super::models::request(prompt(50, 2), 2);
    let host = Busy::new(true);
    let mut long = Answer::begin(&mut session, &request);
    long.run(&mut session, &host);
    assert!(long.events.is_empty(), "{name}: the prompt takes several turns");
    alone(&mut session, &other);
    while long.summary.is_none() {
        long.run(&mut session, &host);
    }
    assert_eq!(long.events, expected.events, "{name}");
    assert!(long.n_turns >= 3, "{name}: {} turns", long.n_turns);
}

#[test]
fn what_gave_way_takes_no_more_than_the_caches_and_goes_with_its_generation() {
    for (name, open) in all() {
        let mut session = open();
        let fixed = session.in_use();
        let host = Busy::new(true);
        let requests: Vec<_> = (0..6).map(|seed| request(prompt(CONTEXT / 5, seed), 60)).collect();
        let mut other = open();
        let mut expected: Vec<_> =
            requests.iter().map(|request| alone(&mut other, request).events).collect();
        let mut answers = Vec::new();
        for request in &requests {
            let mut answer = Answer::begin(&mut session, request);
            for _ in 0..20 {
                answer.run(&mut session, &host);
                if answer.summary.is_some() || answer.events.len() > 5 {
                    break;
                }
            }
            assert!(session.set_aside_bytes() <= session.memory().caches, "{name}");
            answers.push(answer);
        }
        // Not all of them fit beside each other: those for which no room is left go on to their ends.
        let n_over = answers.iter().filter(|answer| answer.summary.is_some()).count();
        assert!((1..6).contains(&n_over), "{name}: {n_over}");
        let kept = session.set_aside_bytes();
        let given_up = answers.iter().position(|answer| answer.summary.is_none()).unwrap();
        answers.remove(given_up);
        assert!(session.set_aside_bytes() < kept, "{name}");
        expected.remove(given_up);
        for (answer, expected) in answers.iter_mut().zip(expected) {
            while answer.summary.is_none() {
                answer.run(&mut session, &host);
            }
            assert_eq!(answer.events, expected, "{name}");
        }
        drop(answers);
        let aside = session.set_aside_bytes();
        assert_eq!(session.in_use() - aside, fixed, "{name}");
        let in_use = session.in_use();
        assert_eq!(session.dispose(), in_use, "{name}");
    }
}
