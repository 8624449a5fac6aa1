//! Chat templates against the prompts that `transformers` renders, and templates that misbehave.

use std::{collections::BTreeMap, time::Instant};

use pesi::{
    ErrorKind,
    chat::{ChatTemplate, TemplateRequest},
    error::Detail,
};
use proptest::prelude::*;
use serde_json::{Value, json};

const SMOLLM2: &str = include_str!("golden/chat/smollm2.jinja");
const GPT_OSS: &str = include_str!("golden/chat/gpt_oss.jinja");

/// 2025-06-28 00:00:00 UTC.
const NOW: i64 = 1_751_068_800;

fn request(messages: Value) -> TemplateRequest {
    TemplateRequest { messages, add_generation_prompt: true, now: NOW, ..Default::default() }
}

/// What `source` makes of a conversation of one message.
fn render(source: &str) -> pesi::Result<String> {
    let template = ChatTemplate::new(source, Some("<s>"), None)?;
    let messages = json!([{
        "role": "user",
        "content": "Hi",
        "data": { "z": [1, 2.5, 1e16, 1e-7, true, null], "a": {}, "è": "\"\u{7}🙂\n", "l": [] },
    }]);
    template.render(&request(messages))
}

/// The message of the error that `source` leads to.
fn failure(source: &str) -> String {
    let error = render(source).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Template);
    error.to_string()
}

#[test]
fn smollm2_renders_the_prompts_of_the_reference() {
    let template = ChatTemplate::new(SMOLLM2, Some("<|im_start|>"), Some("<|im_end|>")).unwrap();
    let golden: Value = serde_json::from_str(include_str!("golden/smollm2/golden.json")).unwrap();
    for (name, prompt) in golden["prompts"].as_object().unwrap() {
        let rendered = template.render(&request(prompt["messages"].clone())).unwrap();
        assert_eq!(rendered, prompt["rendered"].as_str().unwrap(), "{name}");
    }
}

#[test]
fn gpt_oss_renders_the_prompts_of_the_reference() {
    let template = ChatTemplate::new(GPT_OSS, None, None).unwrap();
    let golden: Value = serde_json::from_str(include_str!("golden/chat/gpt_oss.json")).unwrap();
    for case in golden.as_array().unwrap() {
        let mut extra = case["input"].as_object().unwrap().clone();
        let mut request = request(extra.remove("messages").unwrap());
        request.tools = extra.remove("tools");
        if let Some(add) = extra.remove("add_generation_prompt") {
            request.add_generation_prompt = add.as_bool().unwrap();
        }
        request.extra = extra;
        assert_eq!(template.render(&request).unwrap(), case["text"].as_str().unwrap());
    }
}

#[test]
fn the_conversation_is_not_part_of_the_template() {
    let template = ChatTemplate::new("{{ messages[0].content }}", None, None).unwrap();
    let content = "{{ raise_exception('no') }}{% for %}<b>&";
    let rendered = template.render(&request(json!([{ "content": content }]))).unwrap();
    assert_eq!(rendered, content);
}

#[test]
fn a_template_sees_the_variables_that_transformers_gives_it() {
    let source = "{{ bos_token }}|{{ eos_token is defined }}|{{ tools is none }}|\
                  {{ documents is none }}|{{ add_generation_prompt }}|{{ thinking is defined }}";
    assert_eq!(render(source).unwrap(), "<s>|False|True|True|True|False");
    let template = ChatTemplate::new("{{ messages }}|{{ thinking }}|{{ tools }}", None, None);
    let mut request = request(json!([]));
    request.extra = BTreeMap::from([("thinking", json!(false)), ("messages", json!("x"))])
        .into_iter()
        .map(|(name, value)| (name.to_owned(), value))
        .collect();
    request.tools = Some(json!([{ "name": "f" }]));
    assert_eq!(template.unwrap().render(&request).unwrap(), "[]|False|[{'name': 'f'}]");
}

#[test]
fn blocks_take_their_line_with_them() {
    let source = "{% for m in messages %}\n    {% if m.role == 'user' %}\n{{ m.content }}\n    \
                  {% endif %}\n{% endfor %}\nend\n";
    assert_eq!(render(source).unwrap(), "Hi\nend");
}

#[test]
fn loops_can_be_left_and_namespaces_written() {
    let source = "{% set ns = namespace(n=0) %}{% for i in range(9) %}{% if i % 2 %}{% continue %}\
                  {% endif %}{% if i > 5 %}{% break %}{% endif %}{% set ns.n = ns.n + i %}\
                  {% endfor %}{{ ns.n }}";
    assert_eq!(render(source).unwrap(), "6");
}

#[test]
fn methods_of_python_are_there() {
    let source = "{{ 'a b'.split(' ')|join('-') }} {{ ' x '.strip() }} {{ 'Hi'.upper() }} \
                  {{ 'abc'.startswith('a') }} {{ 'abc'[1:] }} {{ messages[0].get('no', 'd') }} \
                  {{ messages[0].keys()|list }} {% for k, v in messages[0].data.items() %}{{ k }} \
                  {%- endfor %}";
    let expected = "a-b x HI True bc d ['role', 'content', 'data'] zaèl";
    assert_eq!(render(source).unwrap(), expected);
}

#[test]
fn json_is_written_as_python_writes_it() {
    let check = |options: &str, expected: &str| {
        let source = format!("{{{{ messages[0].data|tojson{options} }}}}");
        assert_eq!(render(&source).unwrap(), expected, "{options}");
    };
    check(
        "",
        r#"{"z": [1, 2.5, 1e+16, 1e-07, true, null], "a": {}, "è": "\"\u0007🙂\n", "l": []}"#,
    );
    check(
        "(ensure_ascii=true, separators=(',', ':'))",
        r#"{"z":[1,2.5,1e+16,1e-07,true,null],"a":{},"\u00e8":"\"\u0007\ud83d\ude42\n","l":[]}"#,
    );
    let indented = "{\n  \"a\": {},\n  \"l\": [],\n  \"z\": [\n    1,\n    2.5,\n    1e+16,\n    \
                    1e-07,\n    true,\n    null\n  ],\n  \"è\": \"\\\"\\u0007🙂\\n\"\n}";
    check("(indent=2, sort_keys=true)", indented);
    for options in ["(indent='x'*65)", "(indent=-1.5)", "(separators=',')", "(unknown=1)"] {
        failure(&format!("{{{{ messages|tojson{options} }}}}"));
    }
}

#[test]
fn the_date_is_the_callers() {
    let at = |now: i64, format: &str| {
        let source = format!("{{{{ strftime_now('{format}') }}}}");
        let request = TemplateRequest { now, ..Default::default() };
        ChatTemplate::new(&source, None, None).unwrap().render(&request).unwrap()
    };
    assert_eq!(at(NOW, "%Y-%m-%d %H:%M:%S"), "2025-06-28 00:00:00");
    assert_eq!(at(NOW + 49_065, "%d %b %Y, %A %I:%M %p"), "28 Jun 2025, Saturday 01:37 PM");
    assert_eq!(
        at(951_782_400, "%F %T %j %y %a %B %e"),
        "2000-02-29 00:00:00 060 00 Tue February 29"
    );
    assert_eq!(at(-1, "%F %T"), "1969-12-31 23:59:59");
    assert_eq!(at(4_107_542_400, "%D"), "03/01/00");
    assert_eq!(at(0, "%-d/%-m %e %% %Q %"), "1/1  1 % %Q %");
    for now in [i64::MIN, i64::MAX] {
        at(now, "%c %F %j %p");
    }
}

#[test]
fn an_exception_carries_the_templates_own_message() {
    let source =
        "{% macro f() %}{{ raise_exception('Roles must alternate') }}{% endmacro %}{{ f() }}";
    assert_eq!(failure(source), "Roles must alternate");
    assert_eq!(failure("{{ raise_exception('é' * 4000) }}").len(), 1000);
}

#[test]
fn failures_name_the_line() {
    let error = render("a\n{{ messages[0].no.no }}").unwrap_err();
    assert_eq!(error.detail("line"), Some(&Detail::from(2u32)));
    let error = render("a\nb\n{% if %}").unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Template);
    assert_eq!(error.detail("line"), Some(&Detail::from(3u32)));
    assert!(failure("{{ unknown_function() }}").contains("unknown_function"));
}

#[test]
fn loops_without_end_run_out_of_fuel() {
    let start = Instant::now();
    for source in [
        "{% for a in range(9999) %}{% for b in range(9999) %}{% endfor %}{% endfor %}",
        "{% for a in range(9999) %}{% for b in range(9999) %}xxxxxxxxxxxxxxxx{% endfor %}{% endfor %}",
        "{% set ns = namespace(s='x' * 64) %}{% for a in range(99) %}{% set ns.s = ns.s ~ ns.s %}\
         {% endfor %}",
        "{{ 'x' * 999999999 }}",
        "{{ (['x' * 99999] * 99999)|tojson }}",
        "{{ (['x' * 99999] * 99999)|join }}",
        "{{ (['x' * 99999] * 99999) }}",
        "{{ ''.join(['x' * 99999] * 99999) }}",
        "{{ ('x' * 99999).replace('x', 'y' * 99999) }}",
        "{{ '{:>99999999999}'.format(1) }}",
        "{{ ('{0}' * 99999).format('x' * 99999) }}",
        "{% set ns = namespace(s='xx') %}{% for a in range(99) %}\
         {% set ns.s = ns.s.replace('x', 'xxxxxxxx') %}{% endfor %}",
    ] {
        failure(source);
    }
    assert!(start.elapsed().as_secs() < 60, "{:?}", start.elapsed());
}

#[test]
fn recursion_ends_on_a_small_stack() {
    let run = || {
        let deep = "(".repeat(5000) + "1" + &")".repeat(5000);
        for source in [
            "{% macro f(n) %}{{ f(n + 1) }}{% endmacro %}{{ f(0) }}".to_owned(),
            "{% for x in [[[]]] recursive %}{{ loop([[[]]]) }}{% endfor %}".to_owned(),
            "{% include 'chat_template' %}".to_owned(),
            "{% extends 'chat_template' %}".to_owned(),
            format!("{{{{ {deep} }}}}"),
            "{% if 1 %}".repeat(5000),
        ] {
            failure(&source);
        }
    };
    std::thread::Builder::new().stack_size(1 << 20).spawn(run).unwrap().join().unwrap();
}

proptest! {
    #[test]
    fn no_template_makes_the_engine_panic(source in "(\\{\\{|\\}\\}|\\{%|%\\}|[a-z'\"|.()\\[\\] ]|if |for |in |endfor|set |tojson|messages|\\*|\\+|-|9){0,24}") {
        let _ = render(&source);
    }
}
