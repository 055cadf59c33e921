//! Properties: any text is parsed or refused without a panic, every error has its place in the text, and what is printed
//! parses to the same tree.

use std::sync::LazyLock;

use proptest::prelude::*;
use regex::Regex;

use crate::sql::ast::*;
use crate::sql::{Span, SqlErrors, parse_statement, parse_statements};

/// The tree without its places.
fn bare(statement: &Statement) -> String {
    static SPAN: LazyLock<Regex> = LazyLock::new(|| Regex::new(r"Span \{[^}]*\}").unwrap());
    SPAN.replace_all(&format!("{statement:?}"), "_").into_owned()
}

fn check_errors(sql: &str, errors: &SqlErrors) {
    assert!(!errors.errors.is_empty(), "{sql}");
    let n_lines = sql.split('\n').count() as u32;
    for error in &errors.errors {
        let Span { line, column, end_line, end_column } = error.span;
        assert!(line >= 1 && column >= 1 && line <= n_lines && end_line <= n_lines, "{sql}\n{error:?}");
        assert!((line, column) <= (end_line, end_column), "{sql}\n{error:?}");
        let n_chars = sql.split('\n').nth(line as usize - 1).unwrap().chars().count() as u32;
        assert!(column <= n_chars + 1, "{sql}\n{error:?}");
    }
    assert!(!errors.to_string().is_empty());
}

/// What holds for every text. Whether it is right.
pub(super) fn check(sql: &str) -> bool {
    let (statements, errors) = parse_statements(sql);
    if let Some(errors) = &errors {
        check_errors(sql, errors);
    }
    for statement in statements {
        let printed = statement.to_string();
        match parse_statement(&printed) {
            Ok(again) => assert_eq!(bare(&statement), bare(&again), "{sql}\n{printed}"),
            Err(errors) => panic!("{sql}\nis printed as\n{printed}\n{errors}"),
        }
    }
    errors.is_none()
}

/// Pieces that statements are made of, for texts that look like SQL.
pub(super) const PIECES: &str = "SELECT|CREATE|STREAM|TABLE|SHOW|STREAMS|DROP|DESCRIBE|DISTINCT|*|EXCEPT|REPLACE|INVISIBLE|FROM|s|t.a|a|\
    b|`c d`|JOIN|LEFT|OUTER|CROSS|ON|WHERE|GROUP|BY|HAVING|ORDER|ASC|DESC|LIMIT|AND|OR|NOT|IN|BETWEEN|LIKE|IS|NULL|TRUE|\
    CASE|WHEN|THEN|ELSE|END|OVER|PARTITION|FILTER|f(|count(|lag(|TUMBLINGWINDOW(|ss|COUNTWINDOW(|STATEWINDOW(|(|)|[|]|:|,|;|\
    .|->|+|-|/|%|&|^|!|=|<|>|<>|!=|==|#|1|0|-5|1.5|1e3|.5|99999999999999999999|\"x\"|'y'|\"\\n\"|\"\\q\"|\"|'|`|--|/*|*/|\n|\t|\
    ö|😀|\u{0}|WITH|TYPE=\"x\"|SHARED=TRUE|RETAIN_SIZE=\"1\"|BIGINT|ARRAY(|STRUCT(|DEFAULT|FRM|WHRE|GRUOP|@|{|$|?|\\";

pub(super) const VALID: [&str; 9] = [
    "SELECT a, b AS c, s.d->e[0].f, -x * 2 INVISIBLE FROM s WHERE a > 1 AND NOT b LIKE \"x%\" OR c IN (1, 2.5, \"z\")",
    "SELECT * EXCEPT (a, b) REPLACE (c + 1 AS c), t.* FROM s INNER JOIN t AS u ON s.id = u.id LEFT JOIN v ON v.x BETWEEN 1 AND 2",
    "SELECT count(*) AS n, sum(a) FILTER (WHERE b) FROM s GROUP BY k, TUMBLINGWINDOW(ss, 10) FILTER (WHERE a IS NOT NULL) HAVING n > 1 ORDER BY k DESC LIMIT 10",
    "SELECT lag(a, 1, \"none\") OVER (PARTITION BY k WHEN a > 1) FROM demo/a/+/# GROUP BY SLIDINGWINDOW(ms, 10, 2) OVER (WHEN x)",
    "SELECT CASE a WHEN 1 THEN 'x' ELSE \"y\" END, CASE WHEN l[1:2] IN m THEN l[:] END FROM s GROUP BY STATEWINDOW(a, b = 2)",
    "CREATE STREAM s (a bigint DEFAULT 5, b array(struct(c string, d float)), e datetime) WITH (DATASOURCE=\"x/y\", FORMAT=\"json\", SHARED=TRUE)",
    "CREATE TABLE t () WITH (TYPE=\"redis\", KIND=\"lookup\", EXTRA=\"{\\\"a\\\": [1]}\")",
    "SHOW STREAMS; DESCRIBE STREAM s; DROP TABLE `t-1`; EXPLAIN STREAM x;",
    "SELECT 1 -- one\n  , /* two */ 'zw\\u00f6lf' FROM größe WHERE x != .5e-3 || `q``r`",
];

fn piece() -> impl Strategy<Value = String> {
    let pieces: Vec<&str> = PIECES.split('|').chain(["|", "||"]).collect();
    proptest::sample::select(pieces).prop_map(str::to_owned)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1000, ..ProptestConfig::default() })]

    #[test]
    fn any_text(text in "\\PC{0,60}") {
        check(&text);
        if let Err(errors) = parse_statement(&text) {
            check_errors(&text, &errors);
        }
    }

    #[test]
    fn any_pieces(pieces in proptest::collection::vec(piece(), 0..40), glue in "[ ]?") {
        check(&pieces.join(&glue));
        check(&format!("SELECT a FROM s WHERE {}", pieces.join(" ")));
    }

    #[test]
    fn mutated_statements(
        valid in proptest::sample::select(&VALID[..]),
        edits in proptest::collection::vec((any::<prop::sample::Index>(), 0usize..12, piece()), 1..4),
    ) {
        let mut chars: Vec<char> = valid.chars().collect();
        for (at, n_removed, inserted) in edits {
            let at = at.index(chars.len() + 1);
            let end = (at + n_removed).min(chars.len());
            chars.splice(at..end, inserted.chars());
        }
        check(&chars.into_iter().collect::<String>());
    }

}

proptest! {
    // The trees are large.
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    #[test]
    fn printed_trees_parse_to_themselves(statement in statement()) {
        let printed = statement.to_string();
        match parse_statement(&printed) {
            Ok(parsed) => prop_assert_eq!(bare(&statement), bare(&parsed), "{}", printed),
            Err(errors) => prop_assert!(false, "{}", errors),
        }
    }
}

// Trees.

fn ident() -> impl Strategy<Value = Ident> {
    const NAMES: [&str; 13] =
        ["a", "b", "temp", "größe", "_x", "select", "end", "ss", "filter", "two words", "q`r", "a.b", "1st"];
    prop_oneof![proptest::sample::select(&NAMES[..]).prop_map(str::to_owned), "[a-zA-Z_][a-z0-9_]{0,6}", "\\PC{1,5}"]
        .prop_map(|name| Ident { name: name.into(), span: Span::default() })
}

fn call_name() -> impl Strategy<Value = Ident> {
    proptest::sample::select(&["f", "count", "Lag", "left", "replace", "two words", "select"][..])
        .prop_map(|name| Ident { name: name.into(), span: Span::default() })
}

fn literal() -> impl Strategy<Value = Literal> {
    prop_oneof![
        Just(Literal::Null),
        any::<bool>().prop_map(Literal::Bool),
        any::<i64>().prop_map(Literal::Int),
        (-20i64..20).prop_map(Literal::Int),
        any::<f64>().prop_filter("finite", |value| value.is_finite()).prop_map(Literal::Float),
        any::<String>().prop_map(|text| Literal::String(text.into())),
    ]
}

fn expr_of(kind: ExprKind) -> Expr {
    Expr { kind, span: Span::default() }
}

/// How tightly the outermost operator of an expression binds, in the order of the grammar.
fn binding(expr: &Expr) -> u8 {
    match &expr.kind {
        ExprKind::Binary(BinaryOp::Or, ..) => 1,
        ExprKind::Binary(BinaryOp::And, ..) => 2,
        ExprKind::Unary(UnaryOp::Not, _) => 3,
        ExprKind::Binary(op, ..) => match op {
            BinaryOp::Add | BinaryOp::Sub | BinaryOp::BitOr | BinaryOp::BitXor | BinaryOp::Concat => 5,
            BinaryOp::Mul | BinaryOp::Div | BinaryOp::Mod | BinaryOp::BitAnd => 6,
            _ => 4,
        },
        ExprKind::InList { .. }
        | ExprKind::InArray { .. }
        | ExprKind::Between { .. }
        | ExprKind::Like { .. }
        | ExprKind::IsNull { .. } => 4,
        ExprKind::Unary(UnaryOp::Minus, _) => 7,
        _ => 8,
    }
}

/// The expression, in brackets if it binds less tightly than that.
fn at_least(least: u8, expr: Expr) -> Box<Expr> {
    Box::new(if binding(&expr) < least { expr_of(ExprKind::Nested(Box::new(expr))) } else { expr })
}

/// The expression, in brackets if a sign before it would become part of a literal.
fn signable(expr: Expr) -> Box<Expr> {
    match &expr.kind {
        ExprKind::Literal(Literal::Int(_) | Literal::Float(_)) => Box::new(expr_of(ExprKind::Nested(Box::new(expr)))),
        _ => at_least(8, expr),
    }
}

fn binary_op() -> impl Strategy<Value = BinaryOp> {
    use BinaryOp::*;
    const ALL: [BinaryOp; 17] =
        [Add, Sub, Mul, Div, Mod, BitAnd, BitOr, BitXor, Concat, Eq, NotEq, Lt, LtEq, Gt, GtEq, And, Or];
    proptest::sample::select(&ALL[..])
}

fn expr() -> impl Strategy<Value = Expr> {
    let leaf = prop_oneof![
        literal().prop_map(|literal| expr_of(ExprKind::Literal(literal))),
        proptest::collection::vec(ident(), 1..4).prop_map(|parts| expr_of(ExprKind::Name(parts))),
    ];
    leaf.prop_recursive(5, 40, 4, |inner| {
        let list = || proptest::collection::vec(inner.clone(), 1..4);
        let maybe = || proptest::option::of(inner.clone().prop_map(Box::new));
        prop_oneof![
            (inner.clone(), binary_op(), inner.clone()).prop_map(|(left, op, right)| {
                let level = binding(&expr_of(ExprKind::Binary(
                    op,
                    Box::new(expr_of(ExprKind::Literal(Literal::Null))),
                    Box::new(expr_of(ExprKind::Literal(Literal::Null))),
                )));
                expr_of(ExprKind::Binary(op, at_least(level, left), at_least(level + 1, right)))
            }),
            inner.clone().prop_map(|operand| expr_of(ExprKind::Unary(UnaryOp::Not, at_least(3, operand)))),
            inner.clone().prop_map(|operand| expr_of(ExprKind::Unary(UnaryOp::Minus, signable(operand)))),
            (inner.clone(), ident()).prop_map(|(object, member)| expr_of(ExprKind::Member(signable(object), member))),
            (inner.clone(), inner.clone())
                .prop_map(|(array, index)| expr_of(ExprKind::Index(signable(array), Box::new(index)))),
            (inner.clone(), maybe(), maybe()).prop_map(|(array, from, to)| expr_of(ExprKind::Slice(
                signable(array),
                from,
                to
            ))),
            (inner.clone(), list(), any::<bool>()).prop_map(|(operand, list, negated)| {
                expr_of(ExprKind::InList { operand: at_least(4, operand), list, negated })
            }),
            (inner.clone(), ident(), any::<bool>()).prop_map(|(operand, array, negated)| {
                let array = Box::new(expr_of(ExprKind::Name(vec![array])));
                expr_of(ExprKind::InArray { operand: at_least(4, operand), array, negated })
            }),
            (inner.clone(), inner.clone(), inner.clone(), any::<bool>()).prop_map(|(operand, low, high, negated)| {
                let (low, high) = (at_least(5, low), at_least(5, high));
                expr_of(ExprKind::Between { operand: at_least(4, operand), low, high, negated })
            }),
            (inner.clone(), inner.clone(), any::<bool>()).prop_map(|(operand, pattern, negated)| {
                expr_of(ExprKind::Like { operand: at_least(4, operand), pattern: at_least(5, pattern), negated })
            }),
            (inner.clone(), any::<bool>()).prop_map(|(operand, negated)| {
                expr_of(ExprKind::IsNull { operand: at_least(4, operand), negated })
            }),
            (maybe(), proptest::collection::vec((inner.clone(), inner.clone()), 1..3), maybe())
                .prop_map(|(operand, branches, otherwise)| expr_of(ExprKind::Case { operand, branches, otherwise })),
            (call_name(), list(), any::<bool>(), proptest::option::of(inner.clone()), maybe(), any::<bool>()).prop_map(
                |(name, list, distinct, filter, when, over)| {
                    let args = list.iter().cloned().map(Arg::Expr).collect();
                    let key =
                        OrderKey { expr: expr_of(ExprKind::Nested(Box::new(list[0].clone()))), descending: distinct };
                    let over =
                        over.then(|| Over { partition_by: list, order_by: vec![key], when, span: Span::default() });
                    expr_of(ExprKind::Call(Box::new(Call { name, args, distinct, filter, over })))
                }
            ),
            inner.clone().prop_map(|inner| expr_of(ExprKind::Nested(Box::new(inner)))),
        ]
    })
}

fn source() -> impl Strategy<Value = SourceRef> {
    (ident(), proptest::option::of(ident())).prop_map(|(name, alias)| SourceRef { name, alias })
}

fn window() -> impl Strategy<Value = Window> {
    let unit = proptest::sample::select(
        &[TimeUnit::Day, TimeUnit::Hour, TimeUnit::Minute, TimeUnit::Second, TimeUnit::Millisecond][..],
    );
    let kind = prop_oneof![
        (unit.clone(), 1i64..100).prop_map(|(unit, length)| WindowKind::Tumbling { unit, length }),
        (unit.clone(), 1i64..100, 1i64..9).prop_map(|(unit, length, hop)| WindowKind::Hopping { unit, length, hop }),
        (unit.clone(), 1i64..100, 0i64..9).prop_map(|(unit, length, delay)| WindowKind::Sliding {
            unit,
            length,
            delay
        }),
        (unit, 1i64..100, 1i64..9).prop_map(|(unit, max_length, timeout)| WindowKind::Session {
            unit,
            max_length,
            timeout
        }),
        (10i64..100, proptest::option::of(1i64..10))
            .prop_map(|(length, interval)| WindowKind::Count { length, interval }),
        (expr(), proptest::option::of(expr()))
            .prop_map(|(begin, emit)| WindowKind::State { begin: Box::new(begin), emit: emit.map(Box::new) }),
    ];
    let optional = || proptest::option::of(expr());
    (kind, optional(), optional(), proptest::collection::vec(expr(), 0..3)).prop_map(
        |(kind, filter, when, partition_by)| Window { kind, filter, when, partition_by, span: Span::default() },
    )
}

fn select() -> impl Strategy<Value = Select> {
    let kind = prop_oneof![
        expr().prop_map(SelectKind::Expr),
        (
            proptest::option::of(ident()),
            proptest::collection::vec(ident(), 0..3),
            proptest::collection::vec((expr(), ident()), 0..3)
        )
            .prop_map(|(source, except, replace)| SelectKind::Star { source, except, replace }),
    ];
    let item = (kind, proptest::option::of(ident()), any::<bool>()).prop_map(|(kind, alias, invisible)| {
        let alias = if matches!(kind, SelectKind::Expr(_)) { alias } else { None };
        SelectItem { kind, alias, invisible, span: Span::default() }
    });
    let join_kind = proptest::sample::select(
        &[JoinKind::Inner, JoinKind::Left, JoinKind::Right, JoinKind::Full, JoinKind::Cross][..],
    );
    let join = (join_kind, source(), proptest::option::of(expr())).prop_map(|(kind, source, on)| Join {
        kind,
        source,
        on,
        span: Span::default(),
    });
    // A sort key must not be a bare number, which would look like a position.
    let key = (expr(), any::<bool>()).prop_map(|(expr, descending)| {
        let expr = if binding(&expr) == 8 && matches!(expr.kind, ExprKind::Name(_)) {
            expr
        } else {
            expr_of(ExprKind::Nested(Box::new(expr)))
        };
        OrderKey { expr, descending }
    });
    let optional = || proptest::option::of(expr());
    (
        (any::<bool>(), proptest::collection::vec(item, 1..4), source(), proptest::collection::vec(join, 0..3)),
        (optional(), proptest::collection::vec(expr(), 0..3), proptest::option::of(window()), optional()),
        (proptest::collection::vec(key, 0..3), proptest::option::of(any::<u64>())),
    )
        .prop_map(|((distinct, items, from, joins), (filter, group_by, window, having), (order_by, limit))| {
            Select {
                distinct,
                items,
                from,
                joins,
                filter,
                group_by,
                window,
                having,
                order_by,
                limit,
                span: Span::default(),
            }
        })
}

fn field_type() -> impl Strategy<Value = FieldType> {
    use FieldType::*;
    proptest::sample::select(&[Bigint, Float, String, Bytea, Datetime, Boolean][..]).prop_recursive(3, 8, 3, |inner| {
        prop_oneof![
            inner.clone().prop_map(|element| Array(Box::new(element))),
            proptest::collection::vec(inner, 1..4).prop_map(|types| Struct(fields(types))),
        ]
    })
}

/// Columns of these types, each with another name.
fn fields(types: Vec<FieldType>) -> Vec<Field> {
    let named = types.into_iter().enumerate().map(|(idx, ty)| {
        let default = match &ty {
            FieldType::Bigint => Some(Literal::Int(-5)),
            FieldType::Float => Some(Literal::Float(0.5)),
            FieldType::String => Some(Literal::String("\"x\"".into())),
            FieldType::Boolean => Some(Literal::Bool(true)),
            _ => None,
        };
        let default = default.filter(|_| idx % 2 == 0);
        Field { name: Ident { name: format!("f {idx}").into(), span: Span::default() }, ty, default }
    });
    named.collect()
}

fn create() -> impl Strategy<Value = Create> {
    let keyword = proptest::sample::select(&[SourceKeyword::Stream, SourceKeyword::Table][..]);
    (keyword, ident(), proptest::collection::vec(field_type(), 0..4), any::<String>()).prop_map(
        |(keyword, name, types, text)| {
            let option = |name: &str, value: &str| CreateOption {
                name: Ident { name: name.into(), span: Span::default() },
                value: value.into(),
                value_span: Span::default(),
            };
            let options = vec![option("DATASOURCE", &text), option("shared", "true"), option("RETAIN_SIZE", "10")];
            Create { keyword, name, fields: fields(types), options }
        },
    )
}

fn statement() -> impl Strategy<Value = Statement> {
    let keyword = || proptest::sample::select(&[SourceKeyword::Stream, SourceKeyword::Table][..]);
    prop_oneof![
        6 => select().prop_map(|select| Statement::Select(Box::new(select))),
        2 => create().prop_map(Statement::Create),
        1 => keyword().prop_map(Statement::Show),
        1 => (keyword(), ident()).prop_map(|(keyword, name)| Statement::Drop(keyword, name)),
        1 => (keyword(), ident()).prop_map(|(keyword, name)| Statement::Describe(keyword, name)),
        1 => (keyword(), ident()).prop_map(|(keyword, name)| Statement::Explain(keyword, name)),
    ]
}
