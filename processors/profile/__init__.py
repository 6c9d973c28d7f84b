"""What each user likes, where they live, how far and how regularly they move; and what can be learnt from that."""

from processors.profile.cleaning import Cleaner
from processors.profile.components import StreamingComponents
from processors.profile.feature_models import (
    FactorisationMachine,
    FeatureModel,
    LinearRegression,
    LogisticRegression,
    MatrixFactorisation,
    load_feature_model,
)
from processors.profile.settings import ProfileSettings
from processors.profile.user_profile import Anchor, UserProfile
from processors.profile.user_profiles import UserProfiles, warm_up

__all__ = [
    "Anchor",
    "Cleaner",
    "FactorisationMachine",
    "FeatureModel",
    "LinearRegression",
    "LogisticRegression",
    "MatrixFactorisation",
    "ProfileSettings",
    "StreamingComponents",
    "UserProfile",
    "UserProfiles",
    "load_feature_model",
    "warm_up",
]
