"""What a model sees: specification of features, profiles of entities, and the features of one payment."""
