"""The Ray under the pipelines: started here or joined, with the user's code shipped to its workers."""
