//! Which of a graph's parameters a recipe's scope means.

use shoal_onnx::{Graph, Parameter, Role, is_quantised, parameters};

use crate::failure::LearnError;
use crate::recipe::Scope;

/// Picks the parameters in scope, in the order of the layers.
pub(crate) fn select(graph: &Graph, scope: &Scope) -> Result<Vec<Parameter>, LearnError> {
    let known = parameters(graph);
    if known.is_empty() {
        let is_quantised = is_quantised(graph);
        return Err(LearnError::NoParameters { is_quantised });
    }
    let last = known.iter().filter(|p| p.role == Role::Weight).map(|p| p.node).max();
    let is_in = |p: &Parameter| match scope {
        Scope::All => true,
        Scope::LastLayer => Some(p.node) >= last,
        Scope::Names(patterns) => patterns.iter().any(|pattern| means(graph, pattern, p)),
        Scope::BiasAndNorm => matches!(p.role, Role::Bias | Role::Norm),
        Scope::LowRank { .. } => p.role == Role::Weight && p.dims.len() >= 2,
    };
    let picked: Vec<Parameter> = known.iter().filter(|p| is_in(p)).cloned().collect();
    if let Scope::Names(patterns) = scope {
        let useless = patterns.iter().find(|pattern| !known.iter().any(|p| means(graph, pattern, p)));
        if let Some(pattern) = useless {
            return Err(nothing(format!("`{pattern}`"), &known));
        }
    }
    if picked.is_empty() {
        return Err(nothing(format!("{scope:?}"), &known));
    }
    Ok(picked)
}

fn nothing(scope: String, known: &[Parameter]) -> LearnError {
    let known: Vec<&str> = known.iter().map(|p| p.name.as_str()).collect();
    LearnError::NothingInScope { scope, known: known.join(", ") }
}

/// Whether a pattern fits a parameter's name, or that of the node that uses it: exporters that fold
/// constants leave names such as `onnx::Conv_37`, and only the node says where it stands.
fn means(graph: &Graph, pattern: &str, parameter: &Parameter) -> bool {
    fits(pattern, &parameter.name) || fits(pattern, &graph.nodes[parameter.node].name)
}

/// Whether a name fits a pattern of `*` and `?`.
fn fits(pattern: &str, name: &str) -> bool {
    let (pattern, name): (Vec<char>, Vec<char>) = (pattern.chars().collect(), name.chars().collect());
    let (mut p, mut n) = (0, 0);
    let mut retry: Option<(usize, usize)> = None;
    while n < name.len() {
        match pattern.get(p) {
            Some('*') => {
                retry = Some((p, n));
                p += 1;
            }
            Some(c) if *c == '?' || *c == name[n] => {
                p += 1;
                n += 1;
            }
            _ => match retry {
                None => return false,
                Some((star, from)) => {
                    retry = Some((star, from + 1));
                    p = star + 1;
                    n = from + 1;
                }
            },
        }
    }
    pattern[p..].iter().all(|c| *c == '*')
}

#[cfg(test)]
mod tests {
    use super::fits;

    #[test]
    fn patterns() {
        for (pattern, name, expected) in [
            ("*", "", true),
            ("layers.*", "layers.0.bias", true),
            ("*.bias", "layers.0.bias", true),
            ("*.bias", "layers.0.weight", false),
            ("layers.?.bias", "layers.0.bias", true),
            ("layers.?.bias", "layers.10.bias", false),
            ("*0*b*s", "layers.0.bias", true),
            ("", "a", false),
            ("a", "ab", false),
            ("a**", "a", true),
        ] {
            assert_eq!(fits(pattern, name), expected, "{pattern} {name}");
        }
    }
}
