"""An application of mongopatterns: books whose questions are answered."""
