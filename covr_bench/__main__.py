"""`python -m covr_bench`: the same as `covr-bench`."""

from covr_bench.cli.app import main

if __name__ == "__main__":
    main()
