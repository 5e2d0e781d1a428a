//! Plans of the swarm.

use bayeux_testkit::swarm::{Plan, run};

/// The plan that the bytes stand for: clients, decent and rude, on networks that do harm, with hooks that are late.
///
/// Nothing panics, the checks of the world included, which hold after every step; the run ends; the plan's text is read
/// back as the same plan. What the reference model alone has against a run is for the simulation to judge: that knows
/// how to shrink a plan, and which rules the model leaves open.
pub fn swarm_plans(data: &[u8]) {
    let plan = Plan::from_bytes(data);
    assert_eq!(plan.to_string().parse().as_ref(), Ok(&plan), "its text is another plan");
    if let Err(failure) = run(&plan) {
        assert!(!failure.what.starts_with("panic: "), "{failure}\n{plan}");
    }
}
