"""Whether an environment keeps the promises of `suites.base`: each broken one as a sentence that names the mend."""
