//! Tokens to a tree, with all names resolved.

use std::collections::HashMap;

use smol_str::SmolStr;

use super::functions::{self, Function};
use super::lex::{self, Kind, Token};
use super::{MAX_DEPTH, TemplateError};

/// A parsed template with everything that it defines.
#[derive(Debug)]
pub(super) struct Program {
    pub(super) text: String,
    pub(super) main: Vec<Node>,
    pub(super) defined: HashMap<SmolStr, Vec<Node>>,
    pub(super) reads_dot_fields: bool,
}

#[derive(Clone, Debug)]
pub(super) enum Node {
    Text(String),
    Action(Pipe),
    If { pipe: Pipe, then: Vec<Node>, otherwise: Vec<Node> },
    With { pipe: Pipe, then: Vec<Node>, otherwise: Vec<Node> },
    Range { pipe: Pipe, each: Vec<Node>, otherwise: Vec<Node> },
    Template { name: SmolStr, dot: Option<Pipe>, offset: usize },
    Break,
    Continue,
}

/// `$a, $b := command | command`
#[derive(Clone, Debug)]
pub(super) struct Pipe {
    pub(super) vars: Vec<SmolStr>,
    pub(super) assigns: bool,
    pub(super) commands: Vec<Command>,
    pub(super) offset: usize,
}

/// A value, or a function with arguments.
#[derive(Clone, Debug)]
pub(super) struct Command {
    pub(super) args: Vec<Expr>,
    pub(super) offset: usize,
}

#[derive(Clone, Debug)]
pub(super) enum Expr {
    Dot,
    Nil,
    Bool(bool),
    Int(i64),
    Float(f64),
    String(SmolStr),
    /// Fields of dot.
    Field(Vec<SmolStr>),
    /// A variable and fields of it.
    Variable(SmolStr, Vec<SmolStr>),
    /// `(pipe)` and fields of it.
    Pipe(Box<Pipe>, Vec<SmolStr>),
    Function(&'static Function),
}

type Result<T> = std::result::Result<T, (usize, String)>;

/// Reads a template.
pub(super) fn parse(text: &str) -> std::result::Result<Program, TemplateError> {
    let at = |(offset, message): (usize, String)| TemplateError::at(text, offset, message);
    let tokens = lex::tokens(text).map_err(at)?;
    let mut parser = Parser {
        tokens,
        next: 0,
        vars: vec!["$".into()],
        defined: HashMap::new(),
        called: Vec::new(),
        loops: 0,
        depth: 0,
        dot_is_root: true,
        root_is_dot: true,
        reads_dot_fields: false,
    };
    let (main, end) = parser.list(&[]).map_err(at)?;
    debug_assert!(end.is_none());
    for (name, offset) in &parser.called {
        if !parser.defined.contains_key(name) {
            return Err(at((*offset, format!("template \"{name}\" is not defined"))));
        }
    }
    Ok(Program { text: text.to_owned(), main, defined: parser.defined, reads_dot_fields: parser.reads_dot_fields })
}

struct Parser {
    tokens: Vec<Token>,
    next: usize,
    /// Variables in scope, the innermost last.
    vars: Vec<SmolStr>,
    defined: HashMap<SmolStr, Vec<Node>>,
    /// Templates that are called, to be checked at the end.
    called: Vec<(SmolStr, usize)>,
    /// Loops around the current place.
    loops: usize,
    depth: usize,
    /// Dot is the template's own here, not one that `range`, `with` or a call has set.
    dot_is_root: bool,
    /// `$` is the template's own dot here: not so within `define`.
    root_is_dot: bool,
    reads_dot_fields: bool,
}

impl Parser {
    fn peek(&self) -> &Token {
        static END: Token = Token { kind: Kind::End, offset: usize::MAX };
        self.tokens.get(self.next).unwrap_or(&END)
    }

    fn take(&mut self) -> Token {
        let token = self.peek().clone();
        self.next += 1;
        token
    }

    fn skip_space(&mut self) {
        while self.peek().kind == Kind::Space {
            self.next += 1;
        }
    }

    fn take_visible(&mut self) -> Token {
        self.skip_space();
        self.take()
    }

    fn expect_right(&mut self, what: &str) -> Result<()> {
        let token = self.take_visible();
        if token.kind == Kind::Right { Ok(()) } else { Err((token.offset, format!("expected `}}}}` after {what}"))) }
    }

    /// Nodes up to the end of the text, or to one of `ends` as the first word of an action, which is returned.
    fn list(&mut self, ends: &[&str]) -> Result<(Vec<Node>, Option<String>)> {
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            return Err((self.peek().offset, format!("nested deeper than {MAX_DEPTH} levels")));
        }
        let mut nodes = Vec::new();
        let end = loop {
            let token = self.take();
            match token.kind {
                Kind::Text(text) => nodes.push(Node::Text(text)),
                Kind::Left => {
                    self.skip_space();
                    let offset = self.peek().offset;
                    let word = match &self.peek().kind {
                        Kind::Word(word) => word.clone(),
                        _ => String::new(),
                    };
                    if ends.contains(&word.as_str()) {
                        self.next += 1;
                        break Some(word);
                    }
                    if let Some(node) = self.action(&word, offset)? {
                        nodes.push(node);
                    }
                }
                _ if ends.is_empty() => break None,
                _ => {
                    let expected = ends.iter().map(|end| format!("{{{{{end}}}}}")).collect::<Vec<_>>().join(" or ");
                    return Err((token.offset, format!("unexpected end of the template: expected {expected}")));
                }
            }
        };
        self.depth -= 1;
        Ok((nodes, end))
    }

    fn action(&mut self, word: &str, offset: usize) -> Result<Option<Node>> {
        let n_vars = self.vars.len();
        let node = match word {
            "if" | "with" | "range" => {
                self.next += 1;
                Some(self.control(word)?)
            }
            "break" | "continue" => {
                self.next += 1;
                if self.loops == 0 {
                    return Err((offset, format!("{{{{{word}}}}} outside of {{{{range}}}}")));
                }
                self.expect_right(word)?;
                return Ok(Some(if word == "break" { Node::Break } else { Node::Continue }));
            }
            "template" | "block" => {
                self.next += 1;
                let name = self.template_name(word)?;
                self.skip_space();
                let dot = if self.peek().kind == Kind::Right { None } else { Some(self.pipe()?) };
                if word == "block" && dot.is_none() {
                    return Err((offset, "{{block}} needs a value for dot: {{block \"name\" .}}".to_owned()));
                }
                self.expect_right(word)?;
                self.vars.truncate(n_vars);
                self.called.push((name.clone(), offset));
                if word == "block" {
                    self.body_of(name.clone())?;
                }
                Some(Node::Template { name, dot, offset })
            }
            "define" => {
                self.next += 1;
                if self.depth > 1 {
                    return Err((offset, "{{define}} within another action".to_owned()));
                }
                let name = self.template_name(word)?;
                self.expect_right(word)?;
                self.body_of(name)?;
                None
            }
            "else" | "end" => return Err((offset, format!("unexpected {{{{{word}}}}}"))),
            _ => {
                // A variable declared here lives on to the end of the enclosing block.
                let pipe = self.pipe()?;
                self.expect_right("the action")?;
                return Ok(Some(Node::Action(pipe)));
            }
        };
        self.vars.truncate(n_vars);
        Ok(node)
    }

    fn template_name(&mut self, word: &str) -> Result<SmolStr> {
        let token = self.take_visible();
        match token.kind {
            Kind::String(name) => Ok(name.into()),
            _ => Err((token.offset, format!("expected a name in quotes after `{word}`"))),
        }
    }

    /// The body of `define` and `block`: `$` is all that it knows.
    fn body_of(&mut self, name: SmolStr) -> Result<()> {
        let vars = std::mem::replace(&mut self.vars, vec!["$".into()]);
        let loops = std::mem::take(&mut self.loops);
        let (dot, root) = (self.dot_is_root, self.root_is_dot);
        (self.dot_is_root, self.root_is_dot) = (false, false);
        let (nodes, _) = self.list(&["end"])?;
        self.expect_right("end")?;
        (self.dot_is_root, self.root_is_dot) = (dot, root);
        self.loops = loops;
        self.vars = vars;
        self.defined.insert(name, nodes);
        Ok(())
    }

    /// `if`, `with` and `range` behind their keyword.
    fn control(&mut self, word: &str) -> Result<Node> {
        self.depth += 1;
        let n_vars = self.vars.len();
        let pipe = self.pipe_of(word)?;
        self.expect_right(word)?;
        let dot = self.dot_is_root;
        if word != "if" {
            self.dot_is_root = false;
        }
        if word == "range" {
            self.loops += 1;
        }
        let n_inner = self.vars.len();
        let (body, end) = self.list(&["else", "end"])?;
        self.vars.truncate(n_inner);
        self.dot_is_root = dot;
        if word == "range" {
            self.loops -= 1;
        }
        let mut otherwise = Vec::new();
        if end.as_deref() == Some("else") {
            self.skip_space();
            let offset = self.peek().offset;
            match self.peek().kind.clone() {
                // `else if` and `else with` share the `end` of the outer action.
                Kind::Word(next) if next == word && word != "range" => {
                    self.next += 1;
                    otherwise.push(self.control(word)?);
                    self.depth -= 1;
                    self.vars.truncate(n_vars);
                    return Ok(control_node(word, pipe, body, otherwise));
                }
                Kind::Right => {}
                _ => return Err((offset, format!("expected `}}}}` after `else` of `{word}`"))),
            }
            self.next += 1;
            (otherwise, _) = self.list(&["end"])?;
        }
        self.expect_right("end")?;
        self.depth -= 1;
        self.vars.truncate(n_vars);
        Ok(control_node(word, pipe, body, otherwise))
    }

    fn pipe(&mut self) -> Result<Pipe> {
        self.pipe_of("")
    }

    fn pipe_of(&mut self, word: &str) -> Result<Pipe> {
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            return Err((self.peek().offset, format!("nested deeper than {MAX_DEPTH} levels")));
        }
        self.skip_space();
        let offset = self.peek().offset;
        let (vars, assigns) = self.declaration(word)?;
        let mut commands = Vec::new();
        loop {
            self.skip_space();
            let command = self.command(commands.is_empty())?;
            commands.push(command);
            self.skip_space();
            if self.peek().kind == Kind::Pipe {
                self.next += 1;
            } else {
                break;
            }
        }
        // Declared only now: the value can't read the new variable.
        if !assigns {
            self.vars.extend(vars.iter().cloned());
        }
        self.depth -= 1;
        Ok(Pipe { vars, assigns, commands, offset })
    }

    /// `$a :=`, `$a =`, and for `range` also `$a, $b :=`.
    fn declaration(&mut self, word: &str) -> Result<(Vec<SmolStr>, bool)> {
        let start = self.next;
        let mut vars: Vec<(SmolStr, usize)> = Vec::new();
        loop {
            let token = self.take_visible();
            let Kind::Variable(name) = token.kind else { break };
            vars.push((name.into(), token.offset));
            let token = self.take_visible();
            match token.kind {
                Kind::Comma if word == "range" && vars.len() == 1 => {}
                Kind::Comma => return Err((token.offset, "only `range` takes two variables".to_owned())),
                Kind::Declare => return Ok((vars.into_iter().map(|(name, _)| name).collect(), false)),
                Kind::Assign => {
                    for (name, offset) in &vars {
                        self.known_variable(name, *offset)?;
                    }
                    return Ok((vars.into_iter().map(|(name, _)| name).collect(), true));
                }
                _ => break,
            }
        }
        if vars.len() > 1 {
            return Err((self.peek().offset, "expected `:=` after two variables".to_owned()));
        }
        self.next = start;
        Ok((Vec::new(), false))
    }

    fn known_variable(&self, name: &SmolStr, offset: usize) -> Result<()> {
        if self.vars.contains(name) { Ok(()) } else { Err((offset, format!("variable {name} is not defined"))) }
    }

    fn command(&mut self, first: bool) -> Result<Command> {
        let offset = self.peek().offset;
        let mut args = Vec::new();
        loop {
            self.skip_space();
            if matches!(self.peek().kind, Kind::Pipe | Kind::Right | Kind::Close | Kind::End) {
                break;
            }
            let arg_offset = self.peek().offset;
            let arg = self.operand()?;
            if !args.is_empty() && !matches!(args.first(), Some(Expr::Function(_))) {
                return Err((offset, "only a function takes arguments".to_owned()));
            }
            if !matches!(self.peek().kind, Kind::Space | Kind::Pipe | Kind::Right | Kind::Close | Kind::End) {
                return Err((self.peek().offset.min(arg_offset + 1), "expected a space between arguments".to_owned()));
            }
            args.push(arg);
        }
        match args.as_slice() {
            [] => return Err((offset, "expected a value or a function".to_owned())),
            [Expr::Nil] => return Err((offset, "nil alone is no value; give it to a function".to_owned())),
            [Expr::Function(_), ..] => {}
            [_] if !first => {
                return Err((offset, "behind `|` there must be a function, which takes the value".to_owned()));
            }
            _ => {}
        }
        if let [Expr::Function(function), args @ ..] = args.as_slice() {
            let n_args = args.len() + usize::from(!first);
            if n_args < function.min || n_args > function.max {
                let expected = match (function.min, function.max) {
                    (min, max) if min == max => min.to_string(),
                    (min, usize::MAX) => format!("at least {min}"),
                    (min, max) => format!("{min} to {max}"),
                };
                return Err((offset, format!("`{}` takes {expected} arguments, not {n_args}", function.name)));
            }
        }
        Ok(Command { args, offset })
    }

    fn operand(&mut self) -> Result<Expr> {
        let token = self.take();
        let offset = token.offset;
        Ok(match token.kind {
            Kind::Dot => Expr::Dot,
            Kind::String(text) => Expr::String(text.into()),
            Kind::Char(c) => Expr::Int(i64::from(u32::from(c))),
            Kind::Number(text) => number(&text).ok_or_else(|| (offset, format!("`{text}` is no number")))?,
            Kind::Field(name) => {
                let mut fields = vec![name.into()];
                self.fields(&mut fields);
                self.reads_dot_fields |= self.dot_is_root;
                Expr::Field(fields)
            }
            Kind::Variable(name) => {
                let name = name.into();
                self.known_variable(&name, offset)?;
                let mut fields = Vec::new();
                self.fields(&mut fields);
                self.reads_dot_fields |= name == "$" && self.root_is_dot && !fields.is_empty();
                Expr::Variable(name, fields)
            }
            Kind::Open => {
                let n_vars = self.vars.len();
                let pipe = self.pipe()?;
                self.vars.truncate(n_vars);
                let token = self.take_visible();
                if token.kind != Kind::Close {
                    return Err((token.offset, "expected `)`".to_owned()));
                }
                let mut fields = Vec::new();
                self.fields(&mut fields);
                let dot =
                    matches!(pipe.commands.as_slice(), [command] if matches!(command.args.as_slice(), [Expr::Dot]));
                self.reads_dot_fields |= dot && self.dot_is_root && !fields.is_empty();
                Expr::Pipe(Box::new(pipe), fields)
            }
            Kind::Word(word) => match word.as_str() {
                "true" => Expr::Bool(true),
                "false" => Expr::Bool(false),
                "nil" => Expr::Nil,
                _ => Expr::Function(functions::find(&word).map_err(|message| (offset, message))?),
            },
            Kind::End => return Err((offset, "unclosed action: expected `}}`".to_owned())),
            _ => return Err((offset, "expected a value or a function".to_owned())),
        })
    }

    fn fields(&mut self, fields: &mut Vec<SmolStr>) {
        while let Kind::Field(name) = &self.peek().kind {
            fields.push(name.as_str().into());
            self.next += 1;
        }
    }
}

fn control_node(word: &str, pipe: Pipe, body: Vec<Node>, otherwise: Vec<Node>) -> Node {
    match word {
        "if" => Node::If { pipe, then: body, otherwise },
        "with" => Node::With { pipe, then: body, otherwise },
        _ => Node::Range { pipe, each: body, otherwise },
    }
}

/// Go's number constants: decimal, `0x`, `0o`, `0b`, old octals, `_` between digits; a float if it has a point or an exponent.
fn number(text: &str) -> Option<Expr> {
    let clean = text.replace('_', "");
    let (negative, digits) = match clean.strip_prefix('-') {
        Some(digits) => (true, digits),
        None => (false, clean.strip_prefix('+').unwrap_or(&clean)),
    };
    let lower = digits.to_ascii_lowercase();
    let based = [("0x", 16), ("0o", 8), ("0b", 2)]
        .iter()
        .find_map(|(prefix, radix)| lower.strip_prefix(prefix).map(|digits| (digits, *radix)));
    let (digits, radix) = match based {
        Some(based) => based,
        None if lower.contains(['.', 'e']) => {
            let float: f64 = lower.parse().ok()?;
            return float.is_finite().then_some(Expr::Float(if negative { -float } else { float }));
        }
        None if lower.len() > 1 && lower.starts_with('0') => (lower.as_str(), 8),
        None => (lower.as_str(), 10),
    };
    if digits.starts_with(['+', '-']) {
        return None;
    }
    let magnitude = i128::from_str_radix(digits, radix).ok()?;
    i64::try_from(if negative { -magnitude } else { magnitude }).ok().map(Expr::Int)
}
