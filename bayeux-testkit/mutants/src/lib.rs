//! Deliberate bugs in the Bayeux engine, each of which the simulation of `bayeux-testkit` must find.
//!
//! A test that has never failed proves little. Here are mistakes that somebody could make in the engine, one file of
//! them per module in `list/`, each with the rule that it breaks and the number of seeds within which the simulation has
//! to notice. The engine's own source stays as it is: a copy of it is compiled once with all mistakes in it, each behind
//! a switch, and one process for each of them switches one on.
//!
//! [`list`] reads the mutants, [`patch`] puts them into source texts, [`copy`] makes and builds the copy, [`trial`] runs
//! the simulation with one of them.

pub mod copy;
pub mod list;
pub mod patch;
pub mod trial;
