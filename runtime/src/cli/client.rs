//! `status` and `tail`: what a running process says, over HTTP.

use std::io::Write;

use anyhow::{Context, bail};
use futures::StreamExt;
use sluice::pipeline::{EngineStatus, RuleStatus};

use super::{OutputFormat, ServerArguments, StatusArguments, TailArguments, exit};

/// Prints a table of the rules, or what the server said.
pub async fn status(arguments: &StatusArguments) -> anyhow::Result<u8> {
    if arguments.ready {
        print!("{}", get(&arguments.server, "/readyz").await?.text().await?);
        return Ok(exit::OK);
    }
    let path = arguments.rule.as_ref().map_or_else(|| "/rules".to_owned(), |rule| format!("/rules/{rule}"));
    let text = get(&arguments.server, &path).await?.text().await?;
    let status = match arguments.rule {
        Some(_) => EngineStatus { rules: vec![serde_json::from_str(&text).context("the server is no sluice")?] },
        None => serde_json::from_str(&text).context("the server is no sluice")?,
    };
    match arguments.output {
        OutputFormat::Text => print!("{}", table(&status, arguments.rule.is_some())),
        OutputFormat::Json => println!("{text}"),
    }
    Ok(exit::OK)
}

/// Prints results until the rule ends, or whoever reads them does.
pub async fn tail(arguments: &TailArguments) -> anyhow::Result<u8> {
    let response = get(&arguments.server, &format!("/rules/{}/tail", arguments.rule)).await?;
    let mut chunks = response.bytes_stream();
    let mut stdout = std::io::stdout();
    while let Some(chunk) = chunks.next().await {
        if stdout.write_all(&chunk?).and_then(|()| stdout.flush()).is_err() {
            break;
        }
    }
    Ok(exit::OK)
}

async fn get(server: &ServerArguments, path: &str) -> anyhow::Result<reqwest::Response> {
    let url = format!("{}{path}", server.server.trim_end_matches('/'));
    let mut request = reqwest::Client::builder().build()?.get(&url);
    if let Some(file) = &server.token_file {
        let token = std::fs::read_to_string(file).with_context(|| format!("can't read {}", file.display()))?;
        request = request.bearer_auth(token.trim());
    }
    let response = request.send().await.with_context(|| format!("can't reach {url}"))?;
    let status = response.status();
    if !status.is_success() {
        let text = response.text().await.unwrap_or_default();
        let error = serde_json::from_str::<serde_json::Value>(&text).ok();
        let error = error.as_ref().and_then(|error| error.get("error")?.as_str());
        bail!("{url}: {}", error.map_or_else(|| status.to_string(), ToOwned::to_owned));
    }
    Ok(response)
}

/// One line per rule; with `details`, its connectors below.
fn table(status: &EngineStatus, details: bool) -> String {
    let header = ["RULE", "STATE", "GENERATION", "IN", "OUT", "FAILED", "DROPPED", "CONNECTED", "MESSAGE"];
    let mut lines = vec![header.map(ToOwned::to_owned)];
    lines.extend(status.rules.iter().map(rule_line));
    let mut text = align(&lines);
    if details {
        for rule in &status.rules {
            let header = ["CONNECTOR", "TYPE", "CONNECTED", "RECONNECTS", "RETRIES", "IN", "OUT", "LAST ERROR"];
            let mut lines = vec![header.map(ToOwned::to_owned)];
            for connector in rule.sources.iter().chain(&rule.lookups).chain(&rule.sinks) {
                lines.push([
                    connector.name.clone(),
                    connector.connector.clone(),
                    match connector.connected {
                        Some(true) => "yes",
                        Some(false) => "no",
                        None => "not yet",
                    }
                    .to_owned(),
                    connector.reconnects.to_string(),
                    connector.retries.to_string(),
                    connector.rows_in.to_string(),
                    connector.rows_out.to_string(),
                    connector.last_error.as_ref().map(|error| first_line(&error.message)).unwrap_or_default(),
                ]);
            }
            text.push('\n');
            text.push_str(&align(&lines));
        }
    }
    text
}

fn rule_line(rule: &RuleStatus) -> [String; 9] {
    let connectors = || rule.sources.iter().chain(&rule.sinks);
    let n_connected = connectors().filter(|connector| connector.connected == Some(true)).count();
    let generation = if rule.generation == rule.wanted_generation {
        rule.generation.to_string()
    } else {
        format!("{} (of {})", rule.generation, rule.wanted_generation)
    };
    let last_error = || rule.last_error.as_ref().map(|error| error.message.as_str());
    [
        rule.name.clone(),
        rule.state.as_str().to_owned(),
        generation,
        rule.rows_in.to_string(),
        rule.rows_out.to_string(),
        rule.rows_failed.to_string(),
        rule.rows_dropped.values().sum::<u64>().to_string(),
        format!("{n_connected}/{}", connectors().count()),
        rule.message.as_deref().or_else(last_error).map(first_line).unwrap_or_default(),
    ]
}

fn first_line(text: &str) -> String {
    text.lines().next().unwrap_or_default().to_owned()
}

/// Columns as wide as their widest cell, two blanks between them.
fn align<const N: usize>(lines: &[[String; N]]) -> String {
    let widths: [usize; N] = std::array::from_fn(|column_idx| {
        let cells = lines.iter().filter_map(|line| line.get(column_idx));
        cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
    });
    let mut text = String::new();
    for line in lines {
        let cells = line.iter().zip(widths).map(|(cell, width)| format!("{cell:<width$}"));
        text.push_str(cells.collect::<Vec<_>>().join("  ").trim_end());
        text.push('\n');
    }
    text
}
