"""The kit for schemes: a template to start from, and the conformance suite that any scheme can be held to.

    machine, files        a machine without a CPU: accesses go through a page walker in Python
    model, compare, world what memory must contain, and every operation a program can do, done to both and compared
    wander, scenarios     operations: random ones with weights, and directed ones
    replay, shrink        a run is a list of operations: doing it again, and finding the few that matter
    watch                 a scheme wrapped so that each hook call is held to the contract
    failures, programs    every allocation fails once; the bundled guest programs in scarce memory
    suite                 the checks of `rmapbox schemes check`, in processes of their own

`docs/writing-a-scheme.md` says how they are used.
"""
