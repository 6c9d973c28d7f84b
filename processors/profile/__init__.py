"""What each user likes, where they live, how far and how regularly they move."""

from processors.profile.settings import ProfileSettings
from processors.profile.user_profile import Anchor, UserProfile
from processors.profile.user_profiles import UserProfiles, warm_up

__all__ = ["Anchor", "ProfileSettings", "UserProfile", "UserProfiles", "warm_up"]
