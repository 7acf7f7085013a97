# Licensed under the Apache License, Version 2.0 (the "License"); you may
# not use this file except in compliance with the License. You may obtain
# a copy of the License at
#
#      http://www.apache.org/licenses/LICENSE-2.0
#
# Unless required by applicable law or agreed to in writing, software
# distributed under the License is distributed on an "AS IS" BASIS, WITHOUT
# WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the
# License for the specific language governing permissions and limitations
# under the License.

import importlib.metadata

project = "gnocchi-influxdb"
author = "the gnocchi-influxdb contributors"
copyright = author
release = importlib.metadata.version(project)
# In the margin, without the commit of a development build.
version = release.partition("+")[0]

extensions = [
    "openstackdocstheme",
    "oslo_config.sphinxconfiggen",
    "oslo_config.sphinxext",
    "reno.sphinxext",
]

# Written into _static with each build.
config_generator_config_file = "../config-generator.conf"
sample_config_basename = "_static/gnocchi-influxdb"

html_theme = "openstackdocs"
html_static_path = ["_static"]
html_css_files = ["pages.css"]
pygments_style = "native"
# Blocks without a language are messages, samples and settings, not Python.
highlight_language = "text"

# Not hosted by OpenStack: no bug tracker of its own, no list of releases.
openstackdocs_auto_name = False
openstackdocs_auto_version = False
openstackdocs_pdf_link = False
