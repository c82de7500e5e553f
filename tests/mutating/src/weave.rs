//! Puts all changes of a file into its text, each behind a question that is answered when the program runs. So one build
//! serves for all of them.

use std::collections::{HashMap, HashSet};
use std::ops::Range;

use syn::spanned::Spanned;
use syn::visit::{self, Visit};

use crate::mutant::Mutant;

/// A file with changes in it.
pub struct Woven {
    pub text: String,
    /// Where the text of each change is, and where all of its place is: an error there is of this change.
    pub places: Vec<(u32, Range<usize>)>,
    /// The changes that cannot be put in: in constant functions, in functions of `impl Trait`, and of fields of
    /// structures.
    pub left_out: Vec<u32>,
    /// The changes that cannot compile, because they put a `let` into an `||`.
    pub not_compilable: Vec<u32>,
}

/// What is put into the text at a place.
struct Insertion {
    at: usize,
    /// Of several at one place, ends of what is there come first, and what encloses more comes earlier.
    order: (bool, isize),
    /// Pieces of text, with the change that each is for.
    pieces: Vec<(Option<u32>, String)>,
}

/// Puts the numbered changes into the text of their file.
pub fn weave(text: &str, mutants: &[(u32, &Mutant)]) -> Result<Woven, syn::Error> {
    let file = syn::parse_file(text)?;
    let mut sites = Sites::default();
    sites.visit_file(&file);

    let mut grouped: HashMap<(u8, usize), Vec<(u32, &Mutant)>> = HashMap::new();
    let (mut left_out, mut not_compilable) = (Vec::new(), Vec::new());
    for (number, mutant) in mutants {
        let at = mutant.span.start.in_bytes(text);
        let kind = match mutant.genre.as_str() {
            "FnValue" => 0,
            "BinaryOperator" if sites.of_let.contains(&at) => {
                not_compilable.push(*number);
                continue;
            }
            "BinaryOperator" if sites.binary.contains_key(&at) => 1,
            "UnaryOperator" if sites.unary.contains_key(&at) => 2,
            "MatchArm" if sites.arms.contains_key(&at) => 3,
            "MatchArmGuard" => 3,
            _ => {
                left_out.push(*number);
                continue;
            }
        };
        if mutant.is_of_one_type() || sites.constant.iter().any(|range| range.contains(&at)) {
            left_out.push(*number);
            continue;
        }
        // A guard belongs to its arm.
        let at = if mutant.genre == "MatchArmGuard" { sites.arm_of_guard.get(&at).copied().unwrap_or(at) } else { at };
        grouped.entry((kind, at)).or_default().push((*number, mutant));
    }

    let mut insertions = Vec::new();
    let mut wrapped: Vec<(Vec<u32>, Range<usize>)> = Vec::new();
    for ((kind, at), mutants) in &grouped {
        let mut put = |at: usize, order: (bool, isize), pieces: Vec<(Option<u32>, String)>| {
            insertions.push(Insertion { at, order, pieces });
        };
        let mut wrap = |whole: &Range<usize>, before: Vec<(Option<u32>, String)>, after: &str| {
            put(whole.start, (true, -(whole.len() as isize)), before);
            put(whole.end, (false, whole.len() as isize), vec![(None, after.to_owned())]);
        };
        let whole = match kind {
            0 => {
                let value =
                    |(n, m): &(u32, &Mutant)| (Some(*n), format!("if {} {{ return {}; }} ", on(*n), m.replacement));
                put(*at, (true, isize::MIN), mutants.iter().map(value).collect());
                continue;
            }
            1 | 2 => {
                let instead = |m: &Mutant| match &sites.binary.get(at) {
                    Some(Operation { left, right, .. }) => {
                        format!("{} {} {}", &text[left.clone()], m.replacement, &text[right.clone()])
                    }
                    None => text[sites.unary[at].operand.clone()].to_owned(),
                };
                let mut before = vec![(None, "(".to_owned())];
                before.extend(
                    mutants.iter().map(|(n, m)| (Some(*n), format!("if {} {{ {} }} else ", on(*n), instead(m)))),
                );
                before.push((None, "{ ".to_owned()));
                let whole = sites.binary.get(at).map_or_else(|| &sites.unary[at].whole, |found| &found.whole);
                wrap(whole, before, " })");
                whole
            }
            _ => {
                let arm = &sites.arms[at];
                let (mut never, mut always) = (Vec::new(), vec![(None, "(false".to_owned())]);
                for (number, mutant) in mutants {
                    if mutant.genre == "MatchArmGuard" && mutant.replacement == "true" {
                        always.push((Some(*number), format!(" || {}", on(*number))));
                    } else {
                        never.push((Some(*number), format!("!{} && ", on(*number))));
                    }
                }
                if let Some(guard) = &arm.guard {
                    always.push((None, " || (".to_owned()));
                    never.append(&mut always);
                    wrap(guard, never, "))");
                } else {
                    never.insert(0, (None, " if ".to_owned()));
                    never.push((None, "true".to_owned()));
                    put(arm.pattern_end, (false, 0), never);
                }
                // The compiler does not count arms with a guard, and reports the match.
                let deleted =
                    mutants.iter().filter(|(_, mutant)| mutant.genre == "MatchArm").map(|(number, _)| *number);
                wrapped.push((deleted.collect(), arm.of.clone()));
                &arm.whole
            }
        };
        wrapped.push((mutants.iter().map(|(number, _)| *number).collect(), whole.clone()));
    }
    let (text, places) = apply(text, insertions, &wrapped);
    Ok(Woven { text, places, left_out, not_compilable })
}

fn on(number: u32) -> String {
    format!("crate::mutating::on({number})")
}

fn apply(
    text: &str,
    mut insertions: Vec<Insertion>,
    wrapped: &[(Vec<u32>, Range<usize>)],
) -> (String, Vec<(u32, Range<usize>)>) {
    insertions.sort_by_key(|insertion| (insertion.at, insertion.order));
    let (mut woven, mut from, mut places) = (String::with_capacity(text.len() * 2), 0, Vec::new());
    let mut moved = Vec::new();
    for Insertion { at, pieces, .. } in insertions {
        woven.push_str(&text[from..at]);
        from = at;
        for (change, piece) in pieces {
            places.extend(change.map(|number| (number, woven.len()..woven.len() + piece.len())));
            woven.push_str(&piece);
        }
        moved.push((at, woven.len()));
    }
    woven.push_str(&text[from..]);
    let place = |at: usize| match moved.partition_point(|(before, _)| *before <= at) {
        0 => at,
        n => moved[n - 1].1 + at - moved[n - 1].0,
    };
    for (changes, range) in wrapped {
        places.extend(changes.iter().map(|number| (*number, place(range.start)..place(range.end))));
    }
    (woven, places)
}

/// Whether a condition binds names.
fn binds(condition: &syn::Expr) -> bool {
    match condition {
        syn::Expr::Let(_) => true,
        syn::Expr::Binary(both) => binds(&both.left) || binds(&both.right),
        _ => false,
    }
}

struct Operation {
    whole: Range<usize>,
    left: Range<usize>,
    right: Range<usize>,
}

struct Prefixed {
    whole: Range<usize>,
    operand: Range<usize>,
}

struct Arm {
    /// The match.
    of: Range<usize>,
    whole: Range<usize>,
    pattern_end: usize,
    guard: Option<Range<usize>>,
}

/// What can be changed in a file, by where cargo-mutants says that the change is.
#[derive(Default)]
struct Sites {
    binary: HashMap<usize, Operation>,
    of_let: HashSet<usize>,
    unary: HashMap<usize, Prefixed>,
    arms: HashMap<usize, Arm>,
    arm_of_guard: HashMap<usize, usize>,
    /// What is computed when the program is built.
    constant: Vec<Range<usize>>,
}

impl<'a> Visit<'a> for Sites {
    fn visit_expr_binary(&mut self, found: &'a syn::ExprBinary) {
        let [whole, left, right] = [found.span(), found.left.span(), found.right.span()].map(|span| span.byte_range());
        let at = found.op.span().byte_range().start;
        if binds(&found.left) || binds(&found.right) {
            self.of_let.insert(at);
        }
        self.binary.insert(at, Operation { whole, left, right });
        visit::visit_expr_binary(self, found);
    }

    fn visit_expr_unary(&mut self, found: &'a syn::ExprUnary) {
        let at = found.op.span().byte_range().start;
        let [whole, operand] = [found.span(), found.expr.span()].map(|span| span.byte_range());
        self.unary.insert(at, Prefixed { whole, operand });
        visit::visit_expr_unary(self, found);
    }

    fn visit_expr_match(&mut self, found: &'a syn::ExprMatch) {
        let of = found.span().byte_range();
        for arm in &found.arms {
            let whole = arm.span().byte_range();
            let guard = arm.guard.as_ref().map(|(_, guard)| guard.span().byte_range());
            if let Some(guard) = &guard {
                self.arm_of_guard.insert(guard.start, whole.start);
            }
            let pattern_end = arm.pat.span().byte_range().end;
            self.arms.insert(whole.start, Arm { of: of.clone(), whole, pattern_end, guard });
        }
        visit::visit_expr_match(self, found);
    }

    fn visit_item_fn(&mut self, found: &'a syn::ItemFn) {
        self.constant.extend(found.sig.constness.map(|_| found.span().byte_range()));
        visit::visit_item_fn(self, found);
    }

    fn visit_impl_item_fn(&mut self, found: &'a syn::ImplItemFn) {
        self.constant.extend(found.sig.constness.map(|_| found.span().byte_range()));
        visit::visit_impl_item_fn(self, found);
    }

    fn visit_item_const(&mut self, found: &'a syn::ItemConst) {
        self.constant.push(found.span().byte_range());
    }

    fn visit_impl_item_const(&mut self, found: &'a syn::ImplItemConst) {
        self.constant.push(found.span().byte_range());
    }

    fn visit_item_static(&mut self, found: &'a syn::ItemStatic) {
        self.constant.push(found.span().byte_range());
    }
}
