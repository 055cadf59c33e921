//! `check` and `explain`: what `run` would say, without running.

use std::io::Read;
use std::path::Path;

use anyhow::{Context, bail};
use sluice::Registry;
use sluice::check::{assume_sources, verdict};
use sluice::diagnostic::{Diagnostic, Excerpt, Severity};
use sluice_sql::plan::{Catalog, RuleOptions, SourceDef, SourceKind, plan_rule, plan_statement};
use sluice_sql::sql::ast::{Create, SourceKeyword, Statement};
use sluice_sql::sql::{SqlError, parse_statements};

use super::run::load;
use super::{CheckArguments, ExplainArguments, OutputFormat, exit};

/// Prints everything that is wrong, in the order of the files.
pub fn check(arguments: &CheckArguments) -> anyhow::Result<u8> {
    let mut findings = match &arguments.sql {
        Some(path) => check_statements(&read(path)?),
        None => verdict(&load(&arguments.files)?, &arguments.files.registry()),
    };
    if arguments.strict {
        for finding in findings.iter_mut().filter(|finding| finding.severity == Severity::Warning) {
            finding.severity = Severity::Error;
        }
    }
    match arguments.output {
        OutputFormat::Text => findings.iter().for_each(|finding| println!("{finding}")),
        OutputFormat::Json => println!("{}", serde_json::to_string_pretty(&findings)?),
    }
    let n_errors = findings.iter().filter(|finding| finding.is_error()).count();
    if arguments.output == OutputFormat::Text {
        eprintln!(
            "{}",
            match n_errors {
                0 => "no errors".to_owned(),
                1 => "1 error".to_owned(),
                n => format!("{n} errors"),
            }
        );
    }
    Ok(if n_errors == 0 { exit::OK } else { exit::RULES })
}

/// Prints a rule's plan.
pub fn explain(arguments: &ExplainArguments) -> anyhow::Result<u8> {
    let manifests = load(&arguments.files)?;
    let definitions = &manifests.definitions;
    let Some(rule) = definitions.rules.iter().find(|rule| rule.name == arguments.rule) else {
        manifests.diagnostics.iter().for_each(|finding| eprintln!("{finding}"));
        let known: Vec<&str> = definitions.rules.iter().map(|rule| rule.name.as_str()).collect();
        bail!("there is no rule \"{}\" in these files, but: {}", arguments.rule, known.join(", "));
    };
    match plan_rule(&rule.sql, &definitions.catalog(), &arguments.files.registry().functions, &rule.options) {
        Ok(plan) => {
            print!("{}", plan.explain());
            Ok(exit::OK)
        }
        Err(errors) => {
            eprintln!("{errors}");
            Ok(exit::RULES)
        }
    }
}

fn read(path: &Path) -> anyhow::Result<String> {
    if path == Path::new("-") {
        let mut text = String::new();
        std::io::stdin().read_to_string(&mut text).context("standard input")?;
        return Ok(text);
    }
    std::fs::read_to_string(path).with_context(|| format!("can't read {}", path.display()))
}

/// Everything that is wrong with statements that stand by themselves. A source that none of them creates is warned of, and
/// taken to have whatever columns are asked of it.
fn check_statements(text: &str) -> Vec<Diagnostic> {
    let (statements, errors) = parse_statements(text);
    let error = |error: &SqlError| diagnostic(text, error, Severity::Error);
    let mut findings: Vec<Diagnostic> = errors.iter().flat_map(|errors| &errors.errors).map(error).collect();
    let mut catalog = Catalog::default();
    for statement in &statements {
        match statement {
            Statement::Create(create) => {
                catalog.sources.insert(create.name.name.clone(), created(create));
            }
            Statement::Select(select) => {
                let functions = &Registry::builtin().functions;
                for unknown in assume_sources(select, functions, &mut catalog) {
                    findings.push(diagnostic(text, &unknown, Severity::Warning));
                }
                if let Err(errors) = plan_statement(select, &catalog, functions, &RuleOptions::default()) {
                    findings.extend(errors.iter().map(error));
                }
            }
            Statement::Show(_) | Statement::Describe(..) | Statement::Explain(..) | Statement::Drop(..) => {}
        }
    }
    findings.sort_by_key(|finding| (finding.line, finding.column));
    findings
}

fn created(create: &Create) -> SourceDef {
    let option = |name: &str| {
        let mut options = create.options.iter();
        options.find(|option| option.name.name.eq_ignore_ascii_case(name)).map(|option| option.value.clone())
    };
    let is_lookup = option("KIND").is_some_and(|kind| kind.eq_ignore_ascii_case("lookup"));
    let retain = option("RETAIN_SIZE").and_then(|size| size.parse().ok());
    SourceDef {
        kind: match create.keyword {
            SourceKeyword::Stream => SourceKind::Stream,
            SourceKeyword::Table if is_lookup => SourceKind::LookupTable,
            SourceKeyword::Table => SourceKind::ScanTable { retain: retain.unwrap_or(1) },
        },
        fields: create.fields.clone(),
        timestamp: option("TIMESTAMP"),
        timestamp_format: option("TIMESTAMP_FORMAT"),
        strict: option("STRICT_VALIDATION").is_some_and(|strict| strict.eq_ignore_ascii_case("true")),
        implied: Vec::new(),
    }
}

fn diagnostic(text: &str, error: &SqlError, severity: Severity) -> Diagnostic {
    let span = error.span;
    let line = text.lines().nth(span.line.saturating_sub(1) as usize).filter(|_| span.line > 0);
    let excerpt = line.map(|line| {
        let n_chars = u32::try_from(line.chars().count()).unwrap_or(u32::MAX);
        let end = if span.end_line == span.line { span.end_column } else { n_chars.saturating_add(1) };
        Excerpt { text: line.to_owned(), column: span.column, width: end.saturating_sub(span.column).max(1) }
    });
    Diagnostic {
        line: span.line,
        column: span.column,
        excerpt,
        hint: error.hint.clone(),
        ..Diagnostic::error(error.message.clone()).with_severity(severity)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(text: &str) -> String {
        check_statements(text).iter().map(|finding| format!("{finding}\n")).collect()
    }

    #[test]
    fn statements_are_checked_together() {
        let good = "CREATE STREAM s (a BIGINT) WITH (TYPE=\"memory\", DATASOURCE=\"t\");\n\
                    CREATE TABLE t () WITH (TYPE=\"memory\", DATASOURCE=\"u\", KIND=\"lookup\");\n\
                    SELECT s.a, t.b FROM s INNER JOIN t ON s.a = t.id WHERE a > 3;";
        assert_eq!(shown(good), "");
    }

    #[test]
    fn what_is_wrong_has_its_place() {
        let text = "CREATE STREAM demo (a BIGINT) WITH (TYPE=\"memory\", DATASOURCE=\"t\");\n\
                    SELECT b FROM demo;\n\
                    SELECT a FROM dmo WHERE a > 1 AND;\n\
                    SELECT a FROM dmo INNER JOIN other ON dmo.id = other.id;";
        insta::assert_snapshot!(shown(text));
    }
}
