"""Teachers and students learn clips with several labels or none, as jobs run them."""



