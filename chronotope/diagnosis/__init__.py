"""What is wrong with an installation, checked from outside and named: ``chronotope doctor``."""

from chronotope.diagnosis.examination import examine
from chronotope.diagnosis.finding import Finding, Verdict

__all__ = ["Finding", "Verdict", "examine"]
