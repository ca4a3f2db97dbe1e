"""Python's garbage collector, told what a process of this house is like."""

import gc


def spare() -> None:
    """To be called once everything is set up: what is there now stays, so it is not looked at again.

    What comes and goes are tens of thousands of small objects without cycles, be it a batch or the
    requests of a second; at the default thresholds the collector walked them over and over, which
    took a tenth of a process's time.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(100_000, 20, 100)
