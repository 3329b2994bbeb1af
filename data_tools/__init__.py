"""Records and everything that reads, judges and writes them. No torch anywhere in this package.

A map, top down; each line knows only those below it (a contract in pyproject.toml):

    engines      a run by several workers, and slices that become one run
    pipeline     a run in one process: scan, calibration, then both passes over every shard
    filters      signals of a row, rules over them, the cascade          scenes     rendered pictures with exact truth
    aitqe        the quality model: question, answer, policy, guards, its training data
    run          one run: its directory, its plan, blocks of rows, pass 1 (judging), pass 2 (finalising)
    report       statistics and pages        preference  pairs in every toolkit's format       landmarks  Google Landmarks' files
    io           samples from and to every format
    disk         whole files, journals, ledgers        text       what is found in words       calls      a model as an argument
    records      the nouns: Sample, Rejected, Verdict, ...
"""
