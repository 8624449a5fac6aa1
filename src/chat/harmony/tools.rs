//! The section of a message that lists tools.

use std::{collections::BTreeMap, fmt::Write as _};

use super::{
    conversation::{ResponseFormat, ToolDescription, ToolNamespace},
    schema::write_type,
};

/// The section `# Tools`, one namespace after the other, without a line break at its end.
pub(super) fn tools_section(namespaces: &BTreeMap<String, ToolNamespace>) -> String {
    let mut out = String::from("# Tools");
    for namespace in namespaces.values() {
        out.push_str("\n\n");
        write_namespace(namespace, &mut out);
    }
    out
}

/// The section `# Response Formats`, without a line break at its end.
pub(super) fn response_formats_section(formats: &[ResponseFormat]) -> String {
    let mut out = String::from("# Response Formats");
    for format in formats {
        out.push_str("\n\n## ");
        out.push_str(&format.name);
        out.push_str("\n\n");
        for line in format.description.iter().flat_map(|description| description.lines()) {
            write_line("// ", line, &mut out);
        }
        // Writing to a string cannot fail.
        let _ = write!(out, "{}", format.schema);
    }
    out
}

fn write_namespace(namespace: &ToolNamespace, out: &mut String) {
    let ToolNamespace { name, description, tools } = namespace;
    out.push_str("## ");
    out.push_str(name);
    out.push('\n');
    // Without tools the description is the whole entry, and no comment on something else.
    let prefix = if tools.is_empty() { "" } else { "// " };
    for line in description.iter().flat_map(|description| description.lines()) {
        out.push('\n');
        out.push_str(prefix);
        out.push_str(line);
    }
    if tools.is_empty() {
        return;
    }
    let _ = write!(out, "\nnamespace {name} {{\n\n");
    for tool in tools {
        write_tool(tool, out);
    }
    let _ = write!(out, "}} // namespace {name}");
}

fn write_tool(tool: &ToolDescription, out: &mut String) {
    for line in tool.description.lines() {
        write_line("// ", line, out);
    }
    let _ = write!(out, "type {} = (", tool.name);
    if let Some(parameters) = &tool.parameters {
        out.push_str("_: ");
        write_type(parameters, out);
    }
    out.push_str(") => any;\n\n");
}

fn write_line(prefix: &str, line: &str, out: &mut String) {
    for piece in [prefix, line, "\n"] {
        out.push_str(piece);
    }
}
