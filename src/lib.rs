//! llmdev brings a many-service LLM system up on a developer's own Kubernetes, and keeps it true to the code.
//!
//! The modules, in the order in which a change passes through them:
//!
//! 1. [`stack`]: `stack.yaml`, read with positions, checked, and resolved to a [`stack::Stack`] without names.
//! 2. [`build`]: the digest of all that goes into an image is its tag; Docker builds what it has not got.
//! 3. [`cluster`]: which cluster, found or created, and how images get into its nodes.
//! 4. [`render`]: kustomize, helm and plain manifests to objects, with images, labels and owner set.
//! 5. [`apply`]: server-side apply, prune and removal of what this stack owns.
//! 6. [`view`] and [`ready`]: what the cluster says of those objects, watched; and whether a service is ready.
//! 7. [`forward`] and [`logs`]: local ports that hold, and the services' output.
//! 8. [`watch`] and [`sync`]: file changes, and the short way for them into running containers.
//! 9. [`diagnose`]: why a service is not ready, with the remedy; and [`doctor`]: what this machine lacks.
//! 10. [`check`]: what is wrong with the objects before anyone relies on them.
//!
//! [`engine`] decides what happens when (pure) and drives it (effects); [`daemon`] keeps it running and answers
//! clients; [`cli`] and [`ui`] are what people type and see; [`event`] is what all of them say to each other;
//! [`agent`] is the part of llmdev that runs inside a cluster's node.

pub mod agent;
pub mod apply;
pub mod build;
pub mod check;
pub mod cli;
pub mod cluster;
pub mod daemon;
pub mod diagnose;
pub mod doctor;
pub mod engine;
pub mod error;
pub mod event;
pub mod forward;
pub mod logs;
pub mod owner;
pub mod prune;
pub mod ready;
pub mod render;
pub mod stack;
pub mod state;
pub mod sync;
pub mod ui;
pub mod view;
pub mod watch;
