//! Two folders with a stack of the same name: neither touches what is the other's.

use crate::journey::{Stack, web};

#[test]
fn a_stack_of_the_same_name_elsewhere_is_left_alone() {
    let mut first = Stack::new();
    first.has(web("web").that_says("the first's"));
    first.up().went_well();
    let (pods, objects) = (first.pods(), first.objects());

    let mut second = first.of_the_same_name();
    second.has(web("web").that_says("the second's"));
    second.down().went_well();
    assert_eq!(
        (first.pods(), first.objects()),
        (pods.clone(), objects.clone())
    );

    second
        .up()
        .failed_with(5)
        .saying(&["web", "belongs to", "try:"]);
    second.down().went_well();
    assert_eq!((first.pods(), first.objects()), (pods, objects));
    assert_eq!(first.get("web"), "the first's");
}
