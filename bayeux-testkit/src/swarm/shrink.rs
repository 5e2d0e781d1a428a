//! Makes a failing plan small.

use crate::swarm::plan::Plan;
use crate::swarm::setup::Knob;
use crate::swarm::{Failure, run};

/// A plan that fails, and how.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shrunk {
    /// The smallest that was found.
    pub plan: Plan,
    /// How it fails.
    pub failure: Failure,
    /// How many plans were tried.
    pub tries: usize,
}

/// Looks for a smaller plan that fails as `plan` does: leaves out steps, in ever smaller parts, puts knobs to their
/// simplest, makes numbers smaller. Tries `tries` plans at most.
///
/// # Panics
/// Where `plan` does not fail.
pub fn shrink(plan: &Plan, tries: usize) -> Shrunk {
    let failure = run(plan).expect_err("only a plan that fails can be made smaller");
    let mut search =
        Search { rule: failure.rule().to_owned(), best: Shrunk { plan: plan.clone(), failure, tries: 0 }, tries };
    search.cut_end();
    loop {
        let before = (search.best.plan.steps.len(), search.best.plan.clone());
        search.simplify_setup();
        search.leave_out_steps();
        search.simplify_steps();
        if search.best.plan == before.1 || search.is_over() {
            return search.best;
        }
    }
}

struct Search {
    /// What the failure is about.
    rule: String,
    best: Shrunk,
    tries: usize,
}

impl Search {
    fn is_over(&self) -> bool {
        self.best.tries >= self.tries
    }

    /// Whether `plan` fails likewise; it is the best then.
    fn fails(&mut self, plan: Plan) -> bool {
        if self.is_over() || plan == self.best.plan {
            return false;
        }
        self.best.tries += 1;
        match run(&plan) {
            Err(failure) if failure.rule() == self.rule => {
                (self.best.plan, self.best.failure) = (plan, failure);
                true
            }
            Ok(_) | Err(_) => false,
        }
    }

    /// What comes behind the failure is of no use.
    fn cut_end(&mut self) {
        let mut plan = self.best.plan.clone();
        plan.steps.truncate(self.best.failure.step);
        self.fails(plan);
    }

    fn leave_out_steps(&mut self) {
        let mut size = self.best.plan.steps.len() / 2;
        while size > 0 && !self.is_over() {
            let mut at = self.best.plan.steps.len();
            while at > 0 {
                let from = at.saturating_sub(size);
                let mut plan = self.best.plan.clone();
                plan.steps.drain(from..at.min(plan.steps.len()));
                self.fails(plan);
                at = from;
            }
            size /= 2;
        }
    }

    fn simplify_setup(&mut self) {
        for knob in Knob::ALL {
            let mut plan = self.best.plan.clone();
            if plan.setup.set(*knob, knob.choices()[0]).is_ok() {
                self.fails(plan);
            }
        }
    }

    fn simplify_steps(&mut self) {
        for at in 0..self.best.plan.steps.len() {
            for argument in 0..self.best.plan.steps[at].verb.arguments().len() {
                for smaller in [0, 1] {
                    let mut plan = self.best.plan.clone();
                    if plan.steps[at].args[argument] > smaller {
                        plan.steps[at].args[argument] = smaller;
                        self.fails(plan);
                    }
                }
            }
        }
    }
}
