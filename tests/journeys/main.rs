//! What people do with llmdev, from the command line to the cluster and back. One program, so that journeys of all
//! themes share the machine.

#[path = "../common/journey/mod.rs"]
mod journey;

mod daemon;
mod day;
mod edits;
mod failures;
mod interrupts;
mod luck;
mod mends;
mod moby;
mod owners;
mod refusals;
