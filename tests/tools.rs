//! Tools in prompts: small templates in the manner of each family, given requests in OpenAI's shape.

use pesi::{
    ErrorKind,
    chat::{
        ChatTemplate,
        calls::{AnswerParser, CallFormat, Event},
        function_names,
        harmony::{ChatRequest, ResponseFormat},
    },
    error::Detail,
};
use serde_json::{Value, json};

const HERMES: &str = r#"
{%- if tools %}
{{- "<|im_start|>system\nTools:" }}
{%- for tool in tools %}{{ "\n" ~ (tool | tojson) }}{% endfor %}
{{- "\nA call is <tool_call>\n{\"name\": ..., \"arguments\": ...}\n</tool_call><|im_end|>\n" }}
{%- endif %}
{%- set last = namespace(query=messages | length - 1, is_open=true) %}
{%- for message in messages[::-1] %}
{%- if last.is_open and message.role == "user" %}
{%- set last.query = messages | length - 1 - loop.index0 %}{% set last.is_open = false %}
{%- endif %}
{%- endfor %}
{%- for message in messages %}
{%- if message.role == "tool" %}
{{- "<|im_start|>user\n<tool_response>\n" + message.content + "\n</tool_response><|im_end|>\n" }}
{%- else %}
{%- set content = message.content.split("</think>")[-1].lstrip("\n") %}
{%- if loop.index0 > last.query and message.reasoning_content is string %}
{%- set content = "<think>\n" + message.reasoning_content.strip("\n") + "\n</think>\n\n" + content %}
{%- endif %}
{{- "<|im_start|>" + message.role + "\n" + content }}
{%- for call in message.tool_calls %}
{%- set call = call.function %}
{{- "\n<tool_call>\n{\"name\": \"" + call.name + "\", \"arguments\": " + (call.arguments | tojson) + "}\n</tool_call>" }}
{%- endfor %}
{{- "<|im_end|>\n" }}
{%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}{{ "<|im_start|>assistant\n" }}{% endif %}"#;

const LLAMA: &str = r#"
{%- if custom_tools is defined %}{% set tools = custom_tools %}{% endif %}
{%- if not tools is defined %}{% set tools = none %}{% endif %}
{%- if tools is not none %}
{{- "Answer a call as {\"name\": ..., \"parameters\": ...}.\n" }}
{%- for tool in tools %}{{ tool.function.name ~ ": " ~ (tool | tojson(indent=2)) ~ "\n" }}{% endfor %}
{%- endif %}
{%- for message in messages %}
{%- if "tool_calls" in message %}
{%- if message.tool_calls | length != 1 %}{{ raise_exception("one call at a time") }}{% endif %}
{%- set call = message.tool_calls[0].function %}
{{- "<|start_header_id|>assistant<|end_header_id|>\n\n{\"name\": \"" + call.name + "\", \"parameters\": {" }}
{%- for name, value in call.arguments.items() %}
{{- "\"" + name + "\": " + (value | tojson) + (", " if not loop.last else "") }}
{%- endfor %}
{{- "}}<|eot_id|>" }}
{%- else %}
{{- "<|start_header_id|>" + message.role + "<|end_header_id|>\n\n" + message.content + "<|eot_id|>" }}
{%- endif %}
{%- endfor %}"#;

const MISTRAL: &str = r#"
{%- set users = messages | selectattr("role", "equalto", "user") | list %}
{%- for message in messages %}
{%- if tools is not none and message == users[-1] %}
{{- "[AVAILABLE_TOOLS][" }}
{%- for tool in tools %}
{{- "{" }}
{%- for key, value in tool.function.items() if key != "return" %}
{{- "\"" + key + "\": " + (value | tojson) + (", " if not loop.last else "}") }}
{%- endfor %}
{{- ", " if not loop.last else "][/AVAILABLE_TOOLS]" }}
{%- endfor %}
{%- endif %}
{%- if message.role == "user" %}{{ "[INST]" + message.content + "[/INST]" }}
{%- elif message.role == "tool" %}
{{- "[TOOL_RESULTS]" + message.name + " " + message.tool_call_id + " " + message.content + "[/TOOL_RESULTS]" }}
{%- elif message.get("tool_calls") %}
{{- "[TOOL_CALLS][" }}
{%- for call in message.tool_calls %}
{%- if call.id | length != 9 %}{{ raise_exception("an id of another length") }}{% endif %}
{{- (call.function | tojson)[:-1] + ", \"id\": \"" + call.id + "\"}" + (", " if not loop.last else "]</s>") }}
{%- endfor %}
{%- else %}{{ message.content + "</s>" }}{% endif %}
{%- endfor %}"#;

fn template(source: &str) -> ChatTemplate {
    ChatTemplate::new(source, None, None).unwrap()
}

fn tools() -> Value {
    json!([{
        "type": "function",
        "function": {
            "name": "find",
            "description": "Finds <it>.",
            "parameters": { "type": "object", "properties": { "q": { "type": "string" } } },
        },
    }, {
        "type": "function",
        "function": { "name": "wait" },
    }])
}

fn call(id: &str, name: &str, arguments: &str) -> Value {
    json!({ "id": id, "type": "function", "function": { "name": name, "arguments": arguments } })
}

fn request(calls: &[Value]) -> ChatRequest {
    let mut messages = vec![json!({ "role": "user", "content": "Hi" })];
    messages.push(json!({ "role": "assistant", "content": null, "tool_calls": calls }));
    messages.extend(
        calls
            .iter()
            .map(|call| json!({ "role": "tool", "tool_call_id": call["id"], "content": "42" })),
    );
    ChatRequest { messages: messages.into(), tools: Some(tools()), ..Default::default() }
}

/// An object in which the order of members, the numbers and the characters matter.
const ARGUMENTS: &str = r#"{"q": "<è> \"}", "a": {"z": 1, "b": [1.0, null]}}"#;

#[test]
fn hermes_prompts_list_tools_and_write_calls_and_answers() {
    let mut request = request(&[call("call_1", "find", ARGUMENTS), call("call_2", "wait", "")]);
    request.messages[1]["reasoning_content"] = "Hm.".into();
    let expected = [
        "<|im_start|>system\nTools:\n",
        r#"{"type": "function", "function": {"name": "find", "description": "Finds <it>.", "#,
        r#""parameters": {"type": "object", "properties": {"q": {"type": "string"}}}}}"#,
        "\n",
        r#"{"type": "function", "function": {"name": "wait"}}"#,
        "\nA call is <tool_call>\n{\"name\": ..., \"arguments\": ...}\n</tool_call><|im_end|>\n",
        "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n<think>\nHm.\n</think>\n\n\n<tool_call>\n",
        r#"{"name": "find", "arguments": {"q": "<è> \"}", "a": {"z": 1, "b": [1.0, null]}}}"#,
        "\n</tool_call>\n<tool_call>\n{\"name\": \"wait\", \"arguments\": {}}\n</tool_call><|im_end|>\n",
        "<|im_start|>user\n<tool_response>\n42\n</tool_response><|im_end|>\n",
        "<|im_start|>user\n<tool_response>\n42\n</tool_response><|im_end|>\n",
        "<|im_start|>assistant\n",
    ];
    assert_eq!(template(HERMES).render_chat(&request).unwrap(), expected.concat());
}

#[test]
fn llama_prompts_list_tools_and_write_calls() {
    let request = request(&[call("call_1", "find", ARGUMENTS)]);
    let prompt = template(LLAMA).render_chat(&request).unwrap();
    assert!(prompt.starts_with(
        "Answer a call as {\"name\": ..., \"parameters\": ...}.\n\
         find: {\n  \"type\": \"function\",\n  \"function\": {\n    \"name\": \"find\",\n"
    ));
    let call =
        r#"{"name": "find", "parameters": {"q": "<è> \"}", "a": {"z": 1, "b": [1.0, null]}}}"#;
    let assistant = "<|start_header_id|>assistant<|end_header_id|>\n\n";
    assert!(prompt.contains(&format!("{assistant}{call}<|eot_id|>")), "{prompt}");
    let tool = "<|start_header_id|>tool<|end_header_id|>\n\n42<|eot_id|>";
    assert!(prompt.ends_with(tool), "{prompt}");
}

#[test]
fn mistral_prompts_have_ids_that_their_templates_accept() {
    let calls = [
        call("call_f00", "find", "{\"q\":1}"),
        call("a1B2c3D4e", "wait", "{}"),
        call("call_bar_that_is_long", "wait", "{}"),
    ];
    let prompt = template(MISTRAL).render_chat(&request(&calls)).unwrap();
    let expected = [
        r#"[AVAILABLE_TOOLS][{"name": "find", "description": "Finds <it>.", "parameters": "#,
        r#"{"type": "object", "properties": {"q": {"type": "string"}}}}, {"name": "wait"}]"#,
        "[/AVAILABLE_TOOLS][INST]Hi[/INST]",
        r#"[TOOL_CALLS][{"name": "find", "arguments": {"q": 1}, "id": "000000000"}, "#,
        r#"{"name": "wait", "arguments": {}, "id": "a1B2c3D4e"}, "#,
        r#"{"name": "wait", "arguments": {}, "id": "000000002"}]</s>"#,
        "[TOOL_RESULTS]find 000000000 42[/TOOL_RESULTS]",
        "[TOOL_RESULTS]wait a1B2c3D4e 42[/TOOL_RESULTS]",
        "[TOOL_RESULTS]wait 000000002 42[/TOOL_RESULTS]",
    ];
    assert_eq!(prompt, expected.concat());
}

#[test]
fn what_a_template_writes_for_a_call_is_read_as_that_call() {
    for (source, format) in
        [(HERMES, CallFormat::Hermes), (LLAMA, CallFormat::Llama), (MISTRAL, CallFormat::Mistral)]
    {
        let template = template(source);
        assert_eq!(template.calls(), Some(format));
        let mut request = request(&[call("a1B2c3D4e", "find", ARGUMENTS)]);
        request.messages.as_array_mut().unwrap().remove(2);
        let names = function_names(request.tools.take().as_ref()).unwrap();
        assert_eq!(names, ["find", "wait"]);
        let with_call = template.render_chat(&request).unwrap();
        let last = ["<|im_end|>\n<|im_start|>assistant\n", "<|eot_id|>", "</s>"];
        let end = last.iter().find_map(|last| with_call.strip_suffix(last)).unwrap();
        let start = ["assistant\n", "<|end_header_id|>\n\n", "[/INST]"];
        let start = start.iter().filter_map(|start| Some(end.rfind(start)? + start.len())).max();

        let mut parser = AnswerParser::new(Some(format), names, "");
        let mut events = parser.push(&end.as_bytes()[start.unwrap()..]);
        events.extend(parser.finish());
        let [Event::Started { header, .. }, Event::Text { text, .. }, Event::Ended { .. }] =
            &events[..]
        else {
            panic!("{events:?}")
        };
        assert_eq!(header.recipient.as_deref(), Some("functions.find"));
        assert_eq!(text, ARGUMENTS);
    }
}

#[test]
fn templates_without_tools_or_with_calls_of_another_form_refuse_tools() {
    let plain = "{% for message in messages %}{{ message.content }}{% endfor %}";
    let no_place = "the model's chat template has no tools";
    let no_form = "the form of this model's calls of tools is not known";
    for (source, refusal) in [
        (plain.to_owned(), no_place),
        (format!("{plain}You have no tools. <tool_call>"), no_place),
        (format!("{plain}{{% set tools = [] %}}{{{{ tools }}}}[TOOL_CALLS]"), no_place),
        (format!("{plain}{{{{ tools }}}}"), no_form),
        (format!("{plain}{{{{ tools }}}}<tool_call><function=f></tool_call>"), no_form),
    ] {
        let template = template(&source);
        let messages = json!([{ "role": "user", "content": "Hi" }]);
        let mut request = ChatRequest { messages, tools: Some(tools()), ..Default::default() };
        let error = template.render_chat(&request).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unsupported, "{source}");
        assert!(error.to_string().starts_with(refusal), "{error}");
        assert_eq!(error.detail("parameter"), Some(&Detail::from("tools")));
        for none in [None, Some(Value::Null), Some(json!([]))] {
            request.tools = none;
            assert!(template.render_chat(&request).unwrap().starts_with("Hi"));
        }
    }
}

#[test]
fn a_template_is_given_no_tools_where_there_are_none() {
    let template =
        template("{{ tools is none }} {{ messages[0].tool_calls is defined }}[TOOL_CALLS]");
    for calls in [json!([]), Value::Null] {
        let messages = json!([{ "role": "assistant", "content": "Hi", "tool_calls": calls }]);
        let request = ChatRequest { messages, tools: Some(json!([])), ..Default::default() };
        assert_eq!(template.render_chat(&request).unwrap(), "True False[TOOL_CALLS]");
    }
}

#[test]
fn models_are_told_of_the_form_of_their_answer() {
    let plain =
        "{% for message in messages %}{{ message.role }}: {{ message.content }}\n{% endfor %}";
    let no_system = format!(
        "{{% if messages[0].role == 'system' %}}{{{{ raise_exception('no system') }}}}{{% endif %}}{plain}"
    );
    let told = "Answer with JSON that this schema describes, and with nothing else.\n\
                A place.\n{\"type\":\"object\",\"required\":[\"city\"]}";
    let user = json!({ "role": "user", "content": "Where?" });
    let system = json!({ "role": "system", "content": "Be brief." });
    for (source, messages, expected) in [
        (plain, json!([user]), format!("system: {told}\nuser: Where?\n")),
        (plain, json!([system, user]), format!("system: Be brief.\n\n{told}\nuser: Where?\n")),
        (&no_system, json!([user]), format!("user: {told}\n\nWhere?\n")),
    ] {
        let request = ChatRequest {
            messages,
            response_format: Some(ResponseFormat {
                name: "place".to_owned(),
                description: Some("A place.".to_owned()),
                schema: json!({ "type": "object", "required": ["city"] }),
            }),
            ..Default::default()
        };
        assert_eq!(template(source).render_chat(&request).unwrap(), expected);
    }
    // What a template refuses for another reason is still refused.
    let refusing = template("{{ raise_exception('never') }}");
    let request = ChatRequest { messages: json!([user]), ..Default::default() };
    let error = refusing.render_chat(&request).unwrap_err();
    assert_eq!((error.kind(), error.to_string().as_str()), (ErrorKind::Template, "never"));
}

#[test]
fn malformed_requests_are_refused_by_place() {
    let template = template(HERMES);
    let assistant = |calls: Value| json!([{ "role": "assistant", "tool_calls": calls }]);
    for (messages, tools, place) in [
        (json!({}), json!([]), "messages"),
        (json!([1]), json!([]), "messages[0]"),
        (assistant(json!({})), json!([]), "messages[0].tool_calls"),
        (assistant(json!([1])), json!([]), "messages[0].tool_calls[0].function"),
        (assistant(json!([{}])), json!([]), "messages[0].tool_calls[0].function"),
        (
            assistant(json!([{ "function": { "arguments": "{}" } }])),
            json!([]),
            "messages[0].tool_calls[0].function.name",
        ),
        (
            assistant(json!([call("a", "find", "{}"), call("b", "find", "{\"q\"")])),
            json!([]),
            "messages[0].tool_calls[1].function.arguments",
        ),
        (
            assistant(json!([call("a", "find", "[1]")])),
            json!([]),
            "messages[0].tool_calls[0].function.arguments",
        ),
        (json!([]), json!({}), "tools"),
        (json!([]), json!([{ "type": "function" }]), "tools[0].function"),
        (json!([]), json!([{ "function": { "name": "a b" } }]), "tools[0].function.name"),
    ] {
        let request = ChatRequest { messages, tools: Some(tools), ..Default::default() };
        let error = template.render_chat(&request).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidArgument, "{place}");
        assert_eq!(error.detail("parameter"), Some(&Detail::from(place)));
    }
}
