//! Walks the tree and writes the text.

use std::borrow::Cow;

use sluice_sql::Value;
use smol_str::SmolStr;

use super::datum::Datum;
use super::functions::{Call, Kind};
use super::parse::{Command, Expr, Node, Pipe, Program};
use super::{MAX_DEPTH, MAX_OUTPUT, MAX_STEPS, Surroundings, TemplateError, format};

type Result<T> = std::result::Result<T, (usize, String)>;

/// What a list of nodes wants of the loop around it.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Flow {
    On,
    Break,
    Continue,
}

struct Exec<'a> {
    program: &'a Program,
    surroundings: &'a mut Surroundings,
    out: &'a mut String,
    /// Where this rendering began in `out`.
    start: usize,
    vars: Vec<(SmolStr, Datum)>,
    n_steps: usize,
    depth: usize,
}

pub(super) fn run(
    program: &Program,
    dot: &Value,
    surroundings: &mut Surroundings,
    out: &mut String,
) -> std::result::Result<(), TemplateError> {
    let dot = Datum::from(dot);
    let start = out.len();
    let mut exec =
        Exec { program, surroundings, out, start, vars: vec![("$".into(), dot.clone())], n_steps: 0, depth: 0 };
    match exec.list(&program.main, &dot) {
        Ok(_) => Ok(()),
        Err((offset, message)) => Err(TemplateError::at(&program.text, offset, message)),
    }
}

impl Exec<'_> {
    fn step(&mut self, offset: usize) -> Result<()> {
        self.n_steps += 1;
        if self.n_steps > MAX_STEPS {
            return Err((offset, format!("the template takes more than {MAX_STEPS} steps")));
        }
        if self.out.len() - self.start > MAX_OUTPUT {
            return Err((offset, format!("the text is longer than {MAX_OUTPUT} bytes")));
        }
        Ok(())
    }

    fn list(&mut self, nodes: &[Node], dot: &Datum) -> Result<Flow> {
        for node in nodes {
            let n_vars = self.vars.len();
            match node {
                Node::Text(text) => self.out.push_str(text),
                Node::Action(pipe) => {
                    let value = self.pipe(pipe, dot)?;
                    if pipe.vars.is_empty() {
                        match value {
                            Datum::Nothing => self.out.push_str("<no value>"),
                            value => format::value(&value, self.out),
                        }
                    }
                    continue;
                }
                Node::If { pipe, then, otherwise } => {
                    let nodes = if self.pipe(pipe, dot)?.is_true() { then } else { otherwise };
                    let flow = self.block(nodes, dot)?;
                    self.vars.truncate(n_vars);
                    if flow != Flow::On {
                        return Ok(flow);
                    }
                }
                Node::With { pipe, then, otherwise } => {
                    let value = self.pipe(pipe, dot)?;
                    let flow = if value.is_true() { self.block(then, &value)? } else { self.block(otherwise, dot)? };
                    self.vars.truncate(n_vars);
                    if flow != Flow::On {
                        return Ok(flow);
                    }
                }
                Node::Range { pipe, each, otherwise } => {
                    let flow = self.range(pipe, each, otherwise, dot)?;
                    self.vars.truncate(n_vars);
                    if flow != Flow::On {
                        return Ok(flow);
                    }
                }
                Node::Template { name, dot: pipe, offset } => {
                    let value = match pipe {
                        Some(pipe) => self.pipe(pipe, dot)?,
                        None => Datum::Nothing,
                    };
                    self.step(*offset)?;
                    self.depth += 1;
                    if self.depth > MAX_DEPTH {
                        return Err((*offset, format!("templates call each other deeper than {MAX_DEPTH} levels")));
                    }
                    let program = self.program;
                    let vars = std::mem::replace(&mut self.vars, vec![("$".into(), value.clone())]);
                    if let Some(nodes) = program.defined.get(name) {
                        self.list(nodes, &value)?;
                    }
                    self.vars = vars;
                    self.depth -= 1;
                    self.vars.truncate(n_vars);
                }
                Node::Break => return Ok(Flow::Break),
                Node::Continue => return Ok(Flow::Continue),
            }
        }
        Ok(Flow::On)
    }

    /// Nodes with a scope of their own.
    fn block(&mut self, nodes: &[Node], dot: &Datum) -> Result<Flow> {
        let n_vars = self.vars.len();
        let flow = self.list(nodes, dot)?;
        self.vars.truncate(n_vars);
        Ok(flow)
    }

    fn range(&mut self, pipe: &Pipe, each: &[Node], otherwise: &[Node], dot: &Datum) -> Result<Flow> {
        let value = self.value_of(pipe, dot)?;
        let counts = matches!(value, Datum::Int(_) | Datum::Uint(_));
        if counts && pipe.vars.len() > 1 {
            return Err((pipe.offset, "a range over a number takes one variable".to_owned()));
        }
        let entries: Box<dyn Iterator<Item = (Datum, Datum)>> = match &value {
            Datum::Int(n) => Box::new((0..*n).map(|n| (Datum::Int(n), Datum::Int(n)))),
            Datum::Uint(n) => Box::new((0..*n).map(|n| (Datum::Uint(n), Datum::Uint(n)))),
            Datum::Nothing => Box::new(std::iter::empty()),
            Datum::Array(values) => {
                Box::new(values.iter().enumerate().map(|(idx, item)| (Datum::Int(idx as i64), Datum::from(item))))
            }
            Datum::List(items) => {
                Box::new(items.iter().enumerate().map(|(idx, item)| (Datum::Int(idx as i64), item.clone())))
            }
            value => match (value.members(), value.items()) {
                (Some(members), _) => Box::new(members.into_iter().map(|(name, member)| (Datum::String(name), member))),
                (None, Some(Cow::Owned(items))) => {
                    Box::new(items.into_iter().enumerate().map(|(idx, item)| (Datum::Int(idx as i64), item)))
                }
                _ => return Err((pipe.offset, format!("can't range over a value of type {}", value.type_name()))),
            },
        };
        let n_vars = self.vars.len();
        let mut is_empty = true;
        for (key, item) in entries {
            is_empty = false;
            self.step(pipe.offset)?;
            match pipe.vars.as_slice() {
                [only] if counts => self.set(pipe, only, key),
                [only] => self.set(pipe, only, item.clone()),
                [first, second] => {
                    self.set(pipe, first, key);
                    self.set(pipe, second, item.clone());
                }
                _ => {}
            }
            let flow = self.list(each, &item)?;
            self.vars.truncate(n_vars);
            if flow == Flow::Break {
                break;
            }
        }
        if is_empty { self.block(otherwise, dot) } else { Ok(Flow::On) }
    }

    /// Declares or assigns a variable.
    fn set(&mut self, pipe: &Pipe, name: &SmolStr, value: Datum) {
        match self.vars.iter_mut().rev().find(|(known, _)| known == name) {
            Some((_, slot)) if pipe.assigns => *slot = value,
            _ => self.vars.push((name.clone(), value)),
        }
    }

    fn pipe(&mut self, pipe: &Pipe, dot: &Datum) -> Result<Datum> {
        let value = self.value_of(pipe, dot)?;
        for name in &pipe.vars {
            self.set(pipe, name, value.clone());
        }
        Ok(value)
    }

    fn value_of(&mut self, pipe: &Pipe, dot: &Datum) -> Result<Datum> {
        let mut value = None;
        for command in &pipe.commands {
            value = Some(self.command(command, dot, value.take())?);
        }
        Ok(value.unwrap_or(Datum::Nothing))
    }

    fn command(&mut self, command: &Command, dot: &Datum, last: Option<Datum>) -> Result<Datum> {
        self.step(command.offset)?;
        let Some((Expr::Function(function), args)) = command.args.split_first() else {
            return match command.args.first() {
                Some(expr) => self.expr(expr, dot, command.offset),
                None => Ok(Datum::Nothing),
            };
        };
        let at = |message: String| (command.offset, format!("{}: {message}", function.name));
        match function.kind {
            // Evaluated only as far as needed.
            Kind::And | Kind::Or => {
                let mut value = Datum::Nothing;
                for arg in args {
                    value = self.expr(arg, dot, command.offset)?;
                    if value.is_true() == (function.kind == Kind::Or) {
                        return Ok(value);
                    }
                }
                Ok(last.unwrap_or(value))
            }
            Kind::Call(body) => {
                let mut values = Vec::with_capacity(args.len() + 1);
                for arg in args {
                    values.push(self.expr(arg, dot, command.offset)?);
                }
                values.extend(last);
                let mut call = Call { args: values, surroundings: self.surroundings };
                body(&mut call).map_err(at)
            }
        }
    }

    fn expr(&mut self, expr: &Expr, dot: &Datum, offset: usize) -> Result<Datum> {
        Ok(match expr {
            Expr::Dot => dot.clone(),
            Expr::Nil => Datum::Nothing,
            Expr::Bool(value) => Datum::Bool(*value),
            Expr::Int(value) => Datum::Int(*value),
            Expr::Float(value) => Datum::Float(*value),
            Expr::String(text) => Datum::String(text.clone()),
            Expr::Field(names) => fields(dot.clone(), names, offset)?,
            Expr::Variable(name, names) => {
                let value = self.vars.iter().rev().find(|(known, _)| known == name).map(|(_, value)| value.clone());
                fields(value.unwrap_or(Datum::Nothing), names, offset)?
            }
            Expr::Pipe(pipe, names) => {
                let n_vars = self.vars.len();
                let value = self.pipe(pipe, dot)?;
                self.vars.truncate(n_vars);
                fields(value, names, offset)?
            }
            Expr::Function(function) => {
                let command = Command { args: vec![Expr::Function(function)], offset };
                self.command(&command, dot, None)?
            }
        })
    }
}

fn fields(mut value: Datum, names: &[SmolStr], offset: usize) -> Result<Datum> {
    for name in names {
        value = match (&value, value.member(name)) {
            (_, Some(member)) => member.unwrap_or(Datum::Nothing),
            (Datum::Nothing, None) => Datum::Nothing,
            (value, None) => {
                return Err((offset, format!("can't read field {name} of a value of type {}", value.type_name())));
            }
        };
    }
    Ok(value)
}
