//! What was to be reached, and whether it was.

/// The goals in the order in which they were measured.
#[derive(Default)]
pub(crate) struct Goals(Vec<Goal>);

struct Goal {
    what: String,
    limit: String,
    measured: String,
    is_reached: bool,
}

impl Goals {
    pub(crate) fn at_least(&mut self, what: impl Into<String>, value: f64, goal: f64, unit: &str) {
        self.add(what, value, ">=", goal, unit, value >= goal);
    }

    pub(crate) fn at_most(&mut self, what: impl Into<String>, value: f64, goal: f64, unit: &str) {
        self.add(what, value, "<=", goal, unit, value <= goal);
    }

    fn add(
        &mut self,
        what: impl Into<String>,
        value: f64,
        sign: &str,
        goal: f64,
        unit: &str,
        is_reached: bool,
    ) {
        self.0.push(Goal {
            what: what.into(),
            limit: format!("{sign} {goal} {unit}"),
            measured: format!("{value:.1} {unit}"),
            is_reached,
        });
    }

    pub(crate) fn print(&self) {
        if self.0.is_empty() {
            return;
        }
        println!("\n== goals");
        println!("{:<62}{:>12}{:>12}", "", "goal", "measured");
        for goal in &self.0 {
            let verdict = if goal.is_reached { "pass" } else { "MISS" };
            println!(
                "{:<62}{:>12}{:>12}  {verdict}",
                goal.what, goal.limit, goal.measured
            );
        }
    }
}
